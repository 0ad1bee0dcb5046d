//! Name servers that answer nobody, or not every question.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use e2e::Event;
use serde_json::json;

use super::{name_server, public_receiver, setup_with, zone};
use crate::calls::send;
use crate::delivering::egress::until_put_off;

const SILENT_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 54);

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
    world
        .endpoint_at(&other, &url, json!({"timeout_ms": 20_000}))
        .await;
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
    world
        .endpoint_at(&organization, &url, json!({"timeout_ms": 30_000}))
        .await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1").of_tenant("silent")).await;
    until_put_off(&world, "lookups", 1.0).await;
    for other in [Some("neighbour"), None] {
        let id = producer.send(&Event::new("a", "1").of_tenant(other)).await;
        world.until_delivery_is(id, "delivered").await;
    }
    world.finish().await;
}

const DUMB_NAME_SERVER: Ipv4Addr = Ipv4Addr::new(127, 53, 53, 55);

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
    // A busy machine may answer too late when it does.
    let setup = setup_with(&script).worker_env("RETRY_ATTEMPTS", "10");
    let world = setup.start().await;
    let organization = world.organization().await;
    let public = public_receiver(0).await;
    let url = format!("http://public.test:{}/", public.port());
    world
        .endpoint_at(&organization, &url, json!({"timeout_ms": 20_000}))
        .await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    until_put_off(&world, "lookups", 2.0).await;
    assert_eq!(world.attempts_of(id).await, []);
    speaks.store(true, Ordering::Relaxed);
    world.until_delivery_is(id, "delivered").await;
    let attempts = world.attempts_of(id).await;
    assert_eq!(attempts[0].number, 1, "{attempts:?}");
    world.finish().await;
}
