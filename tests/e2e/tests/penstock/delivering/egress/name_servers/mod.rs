//! Name servers that lie, are silent, or have much to say.

mod many_names;
mod silent;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;

use e2e::{Event, NameServer, RawReceiver, Setup, read_request};
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::{setup, skip};

/// Where a test's name server is.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);

/// Stands for a public address: the guard allows this one and no other.
const PUBLIC: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn zone(name: &str, asked_before: usize) -> Vec<IpAddr> {
    let (canary, public) = (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(PUBLIC));
    match name {
        "public.test" => vec![public],
        "rebinding.test" if asked_before == 0 => zone("public.test", 0),
        "private6.test" => vec![Ipv6Addr::LOCALHOST.into()],
        "mapped.test" => vec![Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()],
        "metadata.test" => vec![Ipv4Addr::new(169, 254, 169, 254).into()],
        "mixed.test" => vec![canary, public, Ipv6Addr::LOCALHOST.into()],
        "private.test" | "rebinding.test" => vec![canary],
        _ => Vec::new(),
    }
}

/// Starts a name server and the command that lets a worker ask it and no other: a mount namespace with another
/// `/etc/resolv.conf`, with these options. Nothing where this process may not do that.
async fn name_server(
    address: Ipv4Addr,
    options: &str,
    zone: impl Fn(&str, usize) -> Option<Vec<IpAddr>> + Send + 'static,
) -> Option<(NameServer, String)> {
    let mut unshare = Command::new("unshare");
    let unshare = unshare.args(["--mount", "true"]).stderr(Stdio::null());
    let can_unshare = unshare.status().await.is_ok_and(|status| status.success());
    match NameServer::start(address.into(), zone).await {
        Ok(server) if can_unshare => {
            let config = format!("{}/resolv.conf-{address}", env!("CARGO_TARGET_TMPDIR"));
            let text = format!("nameserver {address}\noptions {options}\n");
            std::fs::write(&config, text).expect("the build folder can be written");
            Some((
                server,
                format!("mount --bind '{config}' /etc/resolv.conf && exec \"$0\" \"$@\""),
            ))
        }
        _ => {
            skip("only root may have a name server of its own");
            None
        }
    }
}

/// A worker that is started by that command, and makes one attempt.
fn setup_with(script: &str) -> Setup {
    setup()
        .worker_env("RETRY_ATTEMPTS", "1")
        .worker_env("EGRESS_ALLOW", &format!("{PUBLIC}/32"))
        .worker_wrapper(&["unshare", "--mount", "sh", "-c", script])
}

/// Receives webhooks at the public address. The next one needs a connection, and so a look-up, of its own.
async fn public_receiver(port: u16) -> RawReceiver {
    RawReceiver::start(&format!("{PUBLIC}:{port}"), async |mut stream| {
        read_request(&mut stream).await;
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.expect("the worker waits for it");
    })
    .await
}

#[tokio::test]
async fn what_a_name_server_says_leads_no_worker_to_the_canary() {
    let zone = |name: &str, asked_before| Some(zone(name, asked_before));
    let server = name_server(NAME_SERVER, "timeout:5 attempts:2", zone).await;
    let Some((_server, script)) = server else {
        return;
    };
    let world = setup_with(&script).start().await;
    let organization = world.organization().await;
    let canary = RawReceiver::canary("127.0.0.1:0").await;
    let canary6 = RawReceiver::canary(&format!("[::1]:{}", canary.port())).await;
    let public = public_receiver(canary.port()).await;
    for (name, outcome) in [
        ("public", "delivered"),
        ("private", "refused"),
        ("private6", "refused"),
        ("mapped", "refused"),
        ("metadata", "refused"),
        ("mixed", "delivered"),
        ("rebinding", "delivered"),
        ("rebinding", "refused"),
        ("missing", "dns"),
    ] {
        // A second event of the same name goes to the endpoint that is there.
        let known = sqlx::query_scalar("select exists (select from endpoints where event_types = array[$1])");
        let known: bool = known.bind(name).fetch_one(world.database()).await.unwrap();
        if !known {
            let url = format!("http://{name}.test:{}/", canary.port());
            world
                .endpoint_at(
                    &organization,
                    &url,
                    json!({"event_types": [name], "timeout_ms": 20_000}),
                )
                .await;
        }
        let id = world.producer(&organization).send(&Event::new(name, "1")).await;
        let status = if outcome == "delivered" {
            "delivered"
        } else {
            "dead"
        };
        world.until_delivery_is(id, status).await;
        assert_eq!(world.attempts_of(id).await[0].outcome, outcome, "{name}");
    }
    assert_eq!(
        (public.connections(), canary.connections(), canary6.connections()),
        (3, 0, 0)
    );
    world.finish().await;
}
