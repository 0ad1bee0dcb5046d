//! The signals by which each service is scaled.

use std::time::Duration;

use e2e::{Event, World, until};
use penstock_local::Service;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpStream;

use crate::calls::{request, status};
use crate::setup;

const BACKLOG: &str = "penstock_worker_backlog_deliveries";
const AGE: &str = "penstock_worker_backlog_age_seconds";

async fn until_backlog(world: &World, service: &Service, holds: impl Fn(f64) -> bool) {
    until(BACKLOG, async || match world.gauge(service, BACKLOG).await {
        Some(value) if holds(value) => Ok(()),
        value => Err(format!("{value:?}")),
    })
    .await;
}

#[tokio::test]
async fn the_backlog_of_workers_rises_without_any_and_falls_when_some_start() {
    let mut world = setup()
        .replicas(2, 1)
        .ingest_env("EVENT_STREAMS", "2")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    until_backlog(&world, world.stack().ingest(0), |value| value == 0.0).await;
    until_backlog(&world, world.stack().worker(0), |value| value == 0.0).await;
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");

    let batch: Vec<_> = (0..50)
        .map(|number| json!({"type": "a", "data": number}))
        .collect();
    for _ in 0..4 {
        let sent = request(&world, 0, Method::POST, "/v1/events/batch", &organization.key).json(&batch);
        assert_eq!(status(sent).await, 202);
    }
    let producer = world.producer(&organization);
    for number in 0..20 {
        producer.send(&Event::new("a", number.to_string())).await;
    }
    let [first, second] = [0, 1].map(|index| world.stack().ingest(index));
    // Frames differ in size, so more than three of them are an estimate.
    until_backlog(&world, first, |value| value >= 30.0).await;
    until_backlog(&world, second, |value| value >= 30.0).await;
    until(AGE, async || match world.gauge(first, AGE).await {
        Some(seconds) if seconds > 0.0 => Ok(()),
        seconds => Err(format!("{seconds:?}")),
    })
    .await;

    for _ in 0..2 {
        world.stack_mut().add_worker().await.expect("a worker starts");
    }
    receiver.wait_for(220).await;
    for index in 0..2 {
        until_backlog(&world, world.stack().ingest(index), |value| value == 0.0).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_near_a_limit_says_which() {
    let world = setup()
        .replicas(1, 0)
        .ingest_env("MAX_CONNECTIONS", "10")
        .start()
        .await;
    let ingest = world.stack().ingest(0);
    let saturation = "penstock_ingest_saturation";
    until(saturation, async || match world.gauge(ingest, saturation).await {
        Some(value) if value < 0.9 => Ok(()),
        value => Err(format!("{value:?}")),
    })
    .await;
    let address = ingest.url().replace("http://", "");
    let mut held = Vec::new();
    for _ in 0..9 {
        let connecting = tokio::time::timeout(Duration::from_secs(10), TcpStream::connect(&address));
        held.push(connecting.await.expect("it listens").expect("it listens"));
    }
    for series in [
        saturation,
        "penstock_ingest_resource_saturation{resource=\"connections\"}",
    ] {
        until(series, async || match world.gauge(ingest, series).await {
            Some(value) if value >= 0.9 => Ok(()),
            value => Err(format!("{value:?}")),
        })
        .await;
    }
    assert_eq!(
        world.gauge(ingest, "penstock_http_max_connections").await,
        Some(10.0)
    );
    drop(held);
    world.finish().await;
}
