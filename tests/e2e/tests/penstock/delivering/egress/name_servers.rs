//! Name servers that lie, are silent, or have much to say.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{Event, NameServer, RawReceiver, Setup, World, read_request, until};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::ENDPOINTS_EACH;
use crate::calls::send;
use crate::setup;

/// Where a test's name server is.
const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 53);
const SILENT_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 54);

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
            eprintln!("SKIPPED: only root may have a name server of its own");
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
    let server = name_server(NAME_SERVER, "timeout:1 attempts:2", zone).await;
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
                    json!({"event_types": [name], "timeout_ms": 5_000}),
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

/// More than the threads of a worker that may block.
const UNANSWERED: u16 = 600;

#[tokio::test]
async fn a_host_name_that_is_never_answered_leaves_look_ups_to_other_organisations() {
    // A look-up that is not answered ends long after its attempt.
    let zone = |name: &str, _| (name != "silent.test").then(|| zone(name, 0));
    let server = name_server(SILENT_NAME_SERVER, "timeout:20 attempts:1", zone).await;
    let Some((_server, script)) = server else {
        return;
    };
    let setup = setup_with(&script).worker_env("MAX_IN_FLIGHT", "4096");
    let setup = setup.worker_env("CIRCUIT_FAILURES", "10000");
    let world = setup.start().await;
    let (silent, other) = (world.organization().await, world.organization().await);
    let public = public_receiver(0).await;
    let settings = json!({"max_in_flight": 1_000, "timeout_ms": 30_000});
    world.endpoint_at(&silent, "http://silent.test/", settings).await;
    let url = format!("http://public.test:{}/", public.port());
    world.endpoint_at(&other, &url, json!({})).await;
    send(&world.producer(&silent), UNANSWERED.into()).await;
    // Every attempt ends because it cannot connect in time.
    world.until_deliveries_are(UNANSWERED.into(), "dead").await;
    let id = world.producer(&other).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    world.finish().await;
}

const DEAF_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 57);

/// More host names than an organisation may have looked up at once.
const DEAD_NAMES: usize = 20;

#[tokio::test]
async fn a_tenants_host_names_that_are_never_answered_leave_look_ups_to_its_neighbours() {
    // The look-ups go on for longer than a test waits for anything.
    let zone = |name: &str, _| (!name.starts_with("silent")).then(|| zone(name, 0));
    let server = name_server(DEAF_NAME_SERVER, "timeout:30 attempts:5", zone).await;
    let Some((_server, script)) = server else {
        return;
    };
    let world = setup_with(&script).start().await;
    let organization = world.organization().await;
    let public = public_receiver(0).await;
    let settings = |tenant: &str| json!({"tenant": tenant, "create_tenant": true, "timeout_ms": 30_000});
    for number in 0..DEAD_NAMES {
        let url = format!("http://silent-{number}.test/");
        world.endpoint_at(&organization, &url, settings("silent")).await;
    }
    let url = format!("http://public.test:{}/", public.port());
    world
        .endpoint_at(&organization, &url, settings("neighbour"))
        .await;
    world.endpoint_at(&organization, &url, json!({})).await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1").of_tenant("silent")).await;
    until("a look-up to have no turn", async || {
        match put_off(&world, "lookups").await {
            1.0.. => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    for other in [Some("neighbour"), None] {
        let id = producer.send(&Event::new("a", "1").of_tenant(other)).await;
        world.until_delivery_is(id, "delivered").await;
    }
    world.finish().await;
}

const DUMB_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 55);

/// How often this worker has put a delivery off for want of something of its own.
async fn put_off(world: &World, lack: &str) -> f64 {
    let name = format!("penstock_deliveries_put_off_total{{lack=\"{lack}\"}}");
    let count = world.gauge(world.stack().worker(0), &name).await;
    count.unwrap_or_default()
}

#[tokio::test]
async fn a_name_server_that_answers_nobody_costs_no_attempt() {
    let speaks = Arc::new(AtomicBool::new(false));
    let zone = {
        let speaks = speaks.clone();
        move |name: &str, _| speaks.load(Ordering::Relaxed).then(|| zone(name, 0))
    };
    let Some((_server, script)) = name_server(DUMB_NAME_SERVER, "timeout:1 attempts:1", zone).await else {
        return;
    };
    let world = setup_with(&script).start().await;
    let organization = world.organization().await;
    let public = public_receiver(0).await;
    let url = format!("http://public.test:{}/", public.port());
    world.endpoint_at(&organization, &url, json!({})).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    until("the delivery to be put off twice", async || {
        match put_off(&world, "lookups").await {
            2.0.. => Ok(()),
            count => Err(count.to_string()),
        }
    })
    .await;
    assert_eq!(world.attempts_of(id).await, []);
    speaks.store(true, Ordering::Relaxed);
    world.until_delivery_is(id, "delivered").await;
    let outcomes = world.attempts_of(id).await;
    assert_eq!(
        outcomes.iter().map(|attempt| attempt.number).collect::<Vec<_>>(),
        [1]
    );
    world.finish().await;
}

const GENEROUS_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 56);

/// Descriptors of a worker that has far fewer than host names to send to.
const DESCRIPTORS: usize = 160;
const HOST_NAMES: usize = 200;

#[tokio::test]
async fn a_worker_with_few_descriptors_delivers_to_many_host_names() {
    let zone = |_: &str, _| Some(vec![IpAddr::from(PUBLIC)]);
    let Some((_server, script)) = name_server(GENEROUS_NAME_SERVER, "timeout:5", zone).await else {
        return;
    };
    let script = format!("ulimit -n {DESCRIPTORS} && {script}");
    let world = setup_with(&script).start().await;
    // It keeps every connection open, so that only the worker closes any.
    let public = RawReceiver::start(&format!("{PUBLIC}:0"), async |mut stream| {
        loop {
            read_request(&mut stream).await;
            if stream
                .write_all(b"HTTP/1.1 204 No Content\r\n\r\n")
                .await
                .is_err()
            {
                return;
            }
        }
    })
    .await;
    let mut producers = Vec::new();
    for number in 0..HOST_NAMES / ENDPOINTS_EACH {
        let organization = world.organization().await;
        let url = |host| format!("http://h{host}.o{number}.test:{}/", public.port());
        let urls: Vec<_> = (0..ENDPOINTS_EACH).map(url).collect();
        // As many as a busy Postgres can take at once.
        for urls in urls.chunks(10) {
            join_all(
                urls.iter()
                    .map(async |url| world.endpoint_at(&organization, url, json!({})).await),
            )
            .await;
        }
        producers.push(world.producer(&organization));
    }
    for producer in &producers {
        send(producer, 2).await;
    }
    let count = i64::try_from(2 * HOST_NAMES).expect("it is small");
    world.until_deliveries_are(count, "delivered").await;
    let failed = "select count(*) from attempt_history where outcome <> 'delivered'";
    assert_eq!(world.count(failed).await, 0);
    let log = world.stack().worker(0).log();
    assert!(log.contains("limit of open descriptors"), "{log}");
    world.finish().await;
}
