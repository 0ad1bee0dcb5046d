//! Receivers that say when they want the next request.

use std::time::{Duration, Instant};

use e2e::{Answer, Event, Organization, Webhook, World, until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{call, json as body};
use crate::setup;

/// Measured times may be a little shorter than what a worker waits: the receiver's clock starts when a request arrives.
const SLACK: Duration = Duration::from_millis(100);

async fn health(world: &World, organization: &Organization, endpoint: e2e::Endpoint) -> Value {
    let path = format!("/{}", endpoint.id);
    body(call(world, organization, Method::GET, &path)).await["health"].take()
}

async fn until_state_is(
    world: &World,
    organization: &Organization,
    endpoint: e2e::Endpoint,
    state: &str,
) -> Value {
    until(&format!("the endpoint to be {state}"), async || {
        let health = health(world, organization, endpoint).await;
        if health["state"] == state {
            Ok(health)
        } else {
            Err(health.to_string())
        }
    })
    .await
}

/// Events of each kind of way: begun before they are stored, stored first, and in order.
async fn send_all_kinds(world: &World, organization: &Organization, each: usize) {
    for ingest in 0..2 {
        let producer = world.producer_at(organization, ingest);
        for number in 0..each {
            producer.send(&Event::new("a", "1")).await;
            let keyed = Event::new("a", "2").with_idempotency_key(format!("{ingest}-{number}"));
            producer.send(&keyed).await;
            let ordered = r#"{"type":"a","data":3,"ordering_key":"k"}"#;
            let answer = producer
                .post_event(ordered)
                .send()
                .await
                .expect("ingest-api answers");
            assert_eq!(answer.status(), 202);
        }
    }
}

fn arrivals(webhooks: &[Webhook]) -> Vec<Instant> {
    webhooks.iter().map(|webhook| webhook.arrived).collect()
}

#[tokio::test]
async fn nothing_goes_to_a_receiver_that_asked_to_wait_before_then_and_one_probe_first() {
    // Longer than a slow machine takes to store the others.
    const WAIT: Duration = Duration::from_secs(10);
    const PROBE: Duration = Duration::from_millis(700);
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"ordered": true}))
        .await;
    let requests = receiver.clone();
    receiver.answer(move |_| match requests.count() {
        // A part of a second is a whole one.
        1 => Answer::status(503).with_header("retry-after", "9.1"),
        2 => Answer::status(204).after(PROBE),
        _ => Answer::status(204),
    });
    world.producer(&organization).send(&Event::new("a", "0")).await;
    let health = until_state_is(&world, &organization, endpoint, "waiting").await;
    assert!(health["waiting_until"].is_string(), "{health}");
    assert_eq!(
        (
            &health["consecutive_failures"],
            &health["failing_since"],
            &health["circuit_open_until"]
        ),
        (&json!(0), &Value::Null, &Value::Null)
    );
    send_all_kinds(&world, &organization, 3).await;
    world.until_deliveries_are_stored(19).await;
    assert_eq!(receiver.count(), 1, "the others wait in the table");

    world.settle().await;
    let arrivals = arrivals(&receiver.webhooks());
    assert_eq!(arrivals.len(), 20);
    let waited = arrivals[1] - arrivals[0];
    assert!(waited >= WAIT.saturating_sub(SLACK), "{waited:?}");
    let alone = arrivals[2] - arrivals[1];
    assert!(
        alone >= PROBE.saturating_sub(SLACK),
        "the second one is a probe: {alone:?}"
    );
    let health = until_state_is(&world, &organization, endpoint, "healthy").await;
    assert_eq!(health["waiting_until"], Value::Null);
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_asks_to_wait_again_and_again_neither_fails_nor_is_disabled() {
    let mut world = setup()
        .worker_env("CIRCUIT_FAILURES", "2")
        .worker_env("DISABLE_AFTER", "1s")
        .start()
        .await;
    let organization = world.organization().await;
    let (receiver, watcher) = (world.receiver().await, world.receiver().await);
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["a"]}))
        .await;
    let asks = json!({"event_types": ["endpoint.*"]});
    world.endpoint_with(&organization, &watcher, asks).await;
    let requests = receiver.clone();
    receiver.answer(move |_| match requests.count() {
        1..=4 => Answer::status(429).with_header("retry-after", "1"),
        _ => Answer::status(204),
    });
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "0")).await;
    until_state_is(&world, &organization, endpoint, "waiting").await;
    for _ in 0..3 {
        producer.send(&Event::new("a", "1")).await;
    }
    world.settle().await;
    let arrivals = arrivals(&receiver.webhooks());
    assert_eq!(arrivals.len(), 4 + 4);
    for pair in arrivals[..5].windows(2) {
        let waited = pair[1] - pair[0];
        assert!(
            waited >= Duration::from_secs(1).saturating_sub(SLACK),
            "{waited:?}"
        );
    }
    until_state_is(&world, &organization, endpoint, "healthy").await;
    assert_eq!(watcher.count(), 0, "its circuit never opened");
    world.finish().await;
}

#[tokio::test]
async fn what_was_under_way_and_succeeds_does_not_end_the_wait() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let patient = json!({"timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&organization, &receiver, patient).await;
    let requests = receiver.clone();
    receiver.answer(move |_| match requests.count() {
        1 => Answer::status(204).held(),
        2 => Answer::status(503).with_header("retry-after", "3"),
        _ => Answer::status(204),
    });
    let producer = world.producer(&organization);
    let first = producer.send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    producer.send(&Event::new("a", "2")).await;
    until_state_is(&world, &organization, endpoint, "waiting").await;
    receiver.release();
    world.until_delivery_is(first, "delivered").await;
    producer.send(&Event::new("a", "3")).await;
    world.settle().await;
    let arrivals = arrivals(&receiver.webhooks());
    assert_eq!(arrivals.len(), 4);
    let waited = arrivals[2] - arrivals[1];
    assert!(
        waited >= Duration::from_secs(3).saturating_sub(SLACK),
        "{waited:?}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_probe_that_fails_otherwise_ends_the_wait_and_is_counted() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    // None of those that are held fails by itself.
    let patient = json!({"timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&organization, &receiver, patient).await;
    let requests = receiver.clone();
    receiver.answer(move |_| match requests.count() {
        // Longer than a slow machine takes to send the others.
        1 => Answer::status(503).with_header("retry-after", "10"),
        2 => Answer::status(500),
        _ => Answer::status(204).held(),
    });
    let producer = world.producer(&organization);
    for number in 0..4 {
        producer.send(&Event::new("a", number.to_string())).await;
        until_state_is(&world, &organization, endpoint, "waiting").await;
    }
    // No success has come yet: the failure alone lets all of them go.
    receiver.wait_for(2 + 4).await;
    let health = health(&world, &organization, endpoint).await;
    assert_eq!(
        (
            &health["state"],
            &health["consecutive_failures"],
            &health["waiting_until"]
        ),
        (&json!("failing"), &json!(1), &Value::Null)
    );
    receiver.release();
    world.settle().await;
    world.finish().await;
}
