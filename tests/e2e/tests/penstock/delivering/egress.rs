//! Where webhooks never go, whatever stands in the table and whatever a name server says. A canary listens on
//! loopback and must hear of no connection.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::{Answer, Attempt, Endpoint, Event, NameServer, RawReceiver, World, read_request, until};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use uuid::Uuid;

use crate::calls::send;
use crate::setup;

/// One JSON string a line, with headings. `PORT` stands for the canary's.
const HOSTILE: &str = include_str!("../../../../../shared/tests/hostile-urls.txt");

/// The guard takes an empty list for a mistake; nothing is ever at this address.
const ALLOW_NOTHING: &str = "192.0.2.255/32";

/// An organisation may have no more endpoints than some number that is larger than this.
const ENDPOINTS_EACH: usize = 50;

/// Every hostile URL that Postgres can hold.
fn hostile_urls(port: u16) -> Vec<String> {
    let lines = HOSTILE.lines().filter(|line| line.starts_with('"'));
    let urls = lines.map(|line| serde_json::from_str::<String>(line).expect("a line is a JSON string"));
    let urls = urls.filter(|url| !url.contains('\0'));
    urls.map(|url| url.replace("PORT", &port.to_string())).collect()
}

/// Changes an endpoint's URL past the API, which would refuse it.
async fn set_url(world: &World, endpoint: Endpoint, url: &str) {
    let query = sqlx::query("update endpoints set url = $2 where id = $1");
    let done = query.bind(endpoint.id).bind(url).execute(world.database()).await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

/// The endpoints that the worker has called so.
fn unusable_endpoints(world: &World) -> Vec<Uuid> {
    let log = world.stack().worker(0).log();
    let lines = log.lines().filter(|line| line.contains("unusable endpoint"));
    let ids: HashSet<_> = lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            words.find_map(|word| word.strip_prefix("endpoint_id=")?.parse().ok())
        })
        .collect();
    ids.into_iter().collect()
}

#[tokio::test]
async fn no_hostile_url_leads_a_worker_to_the_canary() {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let mut world = setup.worker_env("EGRESS_ALLOW", ALLOW_NOTHING).start().await;
    world.tolerate("unusable endpoint");
    // On every address of this machine, of either family.
    let canary = RawReceiver::canary("[::]:0").await;
    let urls = hostile_urls(canary.port());
    assert!(urls.len() >= 150);
    for urls in urls.chunks(ENDPOINTS_EACH) {
        let organization = world.organization().await;
        join_all(urls.iter().map(async |url| {
            let (endpoint, _) = world
                .endpoint_at(&organization, "https://example.com/", json!({}))
                .await;
            set_url(&world, endpoint, url).await;
        }))
        .await;
        world.producer(&organization).send(&Event::new("a", "1")).await;
    }
    // What is no URL gets no webhook; its delivery waits for a worker that knows better, until the endpoint is deleted.
    let unusable = until("every other delivery to be dead", async || {
        let unusable = unusable_endpoints(&world);
        let query = "select count(*) from deliveries where status = 'dead' or endpoint_id = any($1)";
        let query = sqlx::query_scalar(query).bind(&unusable);
        let done: i64 = query
            .fetch_one(world.database())
            .await
            .map_err(|error| error.to_string())?;
        if usize::try_from(done) == Ok(urls.len()) {
            Ok(unusable)
        } else {
            Err(done.to_string())
        }
    })
    .await;
    let delete = sqlx::query("update endpoints set deleted_at = now() where id = any($1)").bind(&unusable);
    delete.execute(world.database()).await.unwrap();
    world.settle().await;
    let query = sqlx::query_as::<_, (String, String)>(
        "select e.url, a.outcome from attempt_history a join endpoints e on e.id = a.endpoint_id",
    );
    let attempts = query.fetch_all(world.database()).await.unwrap();
    let others: Vec<_> = attempts
        .iter()
        .filter(|(_, outcome)| outcome != "refused")
        .collect();
    assert!(others.is_empty(), "{others:#?}");
    assert_eq!(attempts.len() + unusable.len(), urls.len());
    assert!(attempts.len() >= 150, "{}", attempts.len());
    assert_eq!(canary.connections(), 0);
    world.finish().await;
}

#[tokio::test]
async fn a_redirect_leads_nowhere() {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let canary = RawReceiver::canary("127.0.0.1:0").await;
    let location = canary.url();
    receiver.answer(move |webhook| {
        let status = webhook.parse().data.get().parse().unwrap();
        Answer::status(status).with_header("location", &location)
    });
    world.endpoint(&organization, &receiver).await;
    // The receiver's address is one that webhooks may go to, and so is the canary's.
    for status in [301, 302, 303, 307, 308] {
        let event = Event::new("a", status.to_string());
        let id = world.producer(&organization).send(&event).await;
        world.until_delivery_is(id, "dead").await;
        let expected = Attempt {
            number: 1,
            outcome: "redirect".to_owned(),
            response_status: Some(status),
        };
        assert_eq!(world.attempts_of(id).await, [expected]);
    }
    assert_eq!((receiver.requests(), canary.connections()), (5, 0));
    world.finish().await;
}

#[tokio::test]
async fn a_proxy_in_the_environment_is_not_used() {
    let canary = RawReceiver::canary("127.0.0.1:0").await;
    let mut setup = setup();
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        let lower_case = name.to_lowercase();
        setup = setup
            .worker_env(name, &canary.url())
            .worker_env(&lower_case, &canary.url());
    }
    let setup = setup.worker_env("NO_PROXY", "").worker_env("no_proxy", "");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    assert_eq!(canary.connections(), 0);
    world.finish().await;
}

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

#[tokio::test]
async fn what_a_name_server_says_leads_no_worker_to_the_canary() {
    let zone = |name: &str, asked_before| Some(zone(name, asked_before));
    let server = name_server(NAME_SERVER, "timeout:1 attempts:2", zone).await;
    let Some((_server, script)) = server else {
        return;
    };
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let setup = setup.worker_env("EGRESS_ALLOW", &format!("{PUBLIC}/32"));
    let setup = setup.worker_wrapper(&["unshare", "--mount", "sh", "-c", &script]);
    let world = setup.start().await;
    let organization = world.organization().await;
    let canary = RawReceiver::canary("127.0.0.1:0").await;
    let canary6 = RawReceiver::canary(&format!("[::1]:{}", canary.port())).await;
    let public = RawReceiver::start(&format!("{PUBLIC}:{}", canary.port()), async |mut stream| {
        read_request(&mut stream).await;
        // The next webhook needs a connection, and so a look-up, of its own.
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.expect("the worker waits for it");
    })
    .await;
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
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let setup = setup.worker_env("EGRESS_ALLOW", &format!("{PUBLIC}/32"));
    let setup = setup.worker_env("MAX_IN_FLIGHT", "4096");
    let setup = setup.worker_env("CIRCUIT_FAILURES", "10000");
    let setup = setup.worker_wrapper(&["unshare", "--mount", "sh", "-c", &script]);
    let world = setup.start().await;
    let (silent, other) = (world.organization().await, world.organization().await);
    let public = RawReceiver::start(&format!("{PUBLIC}:0"), async |mut stream| {
        read_request(&mut stream).await;
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.expect("the worker waits for it");
    })
    .await;
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

const DUMB_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 55);

/// How often this worker has put a delivery off for want of something of its own.
async fn put_off(world: &World, lack: &str) -> f64 {
    let name = format!("deliveries_put_off_total{{lack=\"{lack}\"}}");
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
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let setup = setup.worker_env("EGRESS_ALLOW", &format!("{PUBLIC}/32"));
    let setup = setup.worker_wrapper(&["unshare", "--mount", "sh", "-c", &script]);
    let world = setup.start().await;
    let organization = world.organization().await;
    let public = RawReceiver::start(&format!("{PUBLIC}:0"), async |mut stream| {
        read_request(&mut stream).await;
        let answer = b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n";
        stream.write_all(answer).await.expect("the worker waits for it");
    })
    .await;
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
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    let setup = setup.worker_env("EGRESS_ALLOW", &format!("{PUBLIC}/32"));
    let setup = setup.worker_wrapper(&["unshare", "--mount", "sh", "-c", &script]);
    let world = setup.start().await;
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
    let failed = sqlx::query_scalar("select count(*) from attempt_history where outcome <> 'delivered'");
    let failed: i64 = failed.fetch_one(world.database()).await.expect("Postgres runs");
    assert_eq!(failed, 0);
    let log = world.stack().worker(0).log();
    assert!(log.contains("limit of open descriptors"), "{log}");
    world.finish().await;
}
