//! What a pull answers with, in which order, and to whom.

use std::collections::HashMap;

use e2e::{Attempt, Event};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use super::{Consumer, send};
use crate::calls::{request, status};
use crate::setup;

#[tokio::test]
async fn a_pulled_event_has_all_that_was_kept_of_it() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let event = world
        .producer(&organization)
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .header("traceparent", trace)
        .body(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"k","vip":true,"datacontenttype":"a/b+json","data":[1 ,2]}"#);
    assert_eq!(event.send().await.unwrap().status(), 202);
    let pull = consumer.post("pull", &json!({"wait_seconds": 20}));
    let pulled: Value = pull.send().await.unwrap().json().await.unwrap();
    let mut event = pulled["deliveries"][0]["event"].clone();
    assert_eq!(
        event["accepted_at"].as_str().map(str::len),
        Some("2026-01-02T03:04:05.000000Z".len())
    );
    for field in ["id", "accepted_at"] {
        event[field] = json!("…");
    }
    insta::assert_snapshot!(event, @r#"{"accepted_at":"…","cloudevent":{"datacontenttype":"a/b+json","id":"1","partitionkey":"k","source":"/s","specversion":"1.0","type":"t","vip":true},"content_type":"a/b+json","data":[1,2],"id":"…","idempotency_key":"[\"/s\",\"1\"]","ordering_key":"k","tenant":null,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","type":"t"}"#);
    world.finish().await;
}

#[tokio::test]
async fn what_is_pulled_has_the_bytes_that_were_sent_and_is_acknowledged_once() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let (consumer, other) = (
        Consumer::new(&world, &organization).await,
        Consumer::new(&world, &organization).await,
    );
    let data = r#"{"b" : 1e400, "a": 12345678901234567890, "s": "\u0000"}"#;
    let id = send(&world, &organization, data).await;
    world.until_deliveries_are_stored(2).await;

    let pulled = consumer.pull(json!({})).await;
    let [delivery] = &pulled[..] else {
        panic!("{} deliveries", pulled.len())
    };
    assert_eq!((delivery.event.id, delivery.attempt), (id, 1));
    assert_eq!(delivery.event.data.get(), data);
    assert!(consumer.pull(json!({})).await.is_empty(), "it is leased");

    let lease = &*delivery.lease;
    assert_eq!(other.acknowledge(lease).await, "expired", "it is not held there");
    let made_up = format!("{}AAAA", &lease[..50]);
    let outcomes = consumer.acknowledge_all(&[&made_up, lease, "x", lease]).await;
    assert_eq!(outcomes, ["expired", "acknowledged", "unknown", "acknowledged"]);
    assert_eq!(consumer.acknowledge(lease).await, "already_acknowledged");
    assert!(consumer.pull(json!({})).await.is_empty());
    let statuses: HashMap<_, _> = world
        .deliveries()
        .await
        .into_iter()
        .map(|delivery| (delivery.endpoint_id, (delivery.status, delivery.attempts)))
        .collect();
    assert_eq!(statuses[&consumer.endpoint], ("delivered".to_owned(), 1));
    assert_eq!(statuses[&other.endpoint], ("pending".to_owned(), 0));
    let attempt = Attempt {
        number: 1,
        outcome: "delivered".to_owned(),
        response_status: None,
    };
    assert_eq!(world.attempts_of(id).await, [attempt]);
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_is_older_than_its_consumer_is_pulled_after_a_replay() {
    let world = setup().start().await;
    let organization = world.organization().await;
    Consumer::new(&world, &organization).await;
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;
    let late = Consumer::new(&world, &organization).await;
    let path = format!("/v1/events/{id}/replay");
    let replay = request(&world, 0, Method::POST, &path, &organization.key);
    assert_eq!(
        status(replay.json(&json!({"endpoint_id": late.endpoint}))).await,
        202
    );
    let pulled = late.pull(json!({})).await;
    assert_eq!((pulled[0].event.id, pulled[0].attempt), (id, 1));
    assert_eq!(late.acknowledge(&pulled[0].lease).await, "acknowledged");
    world.finish().await;
}

#[tokio::test]
async fn a_payload_that_is_not_json_comes_in_base64() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let event = world
        .producer(&organization)
        .post("/v1/events")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/s")
        .header("ce-type", "t")
        .header("content-type", "text/plain")
        .body("hi");
    assert_eq!(event.send().await.unwrap().status(), 202);
    let pull = consumer.post("pull", &json!({"wait_seconds": 20}));
    let pulled: Value = pull.send().await.unwrap().json().await.unwrap();
    let event = &pulled["deliveries"][0]["event"];
    assert_eq!(event["content_type"], "text/plain");
    assert_eq!(
        (&event["data_base64"], &event["data"]),
        (&json!("aGk="), &Value::Null)
    );
    world.finish().await;
}

#[tokio::test]
async fn consumers_that_pull_at_the_same_time_never_get_the_same_delivery() {
    const EVENTS: usize = 400;
    let world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let event = Event::new("a", "1");
    let producer = world.producer(&organization);
    join_all((0..EVENTS).map(|_| producer.send(&event))).await;
    world.until_deliveries_are_stored(EVENTS).await;

    let consumers = (0..8).map(|number| {
        let consumer = consumer.at(&world, number % 2);
        async move {
            let mut seen = Vec::new();
            loop {
                let pulled = consumer.pull(json!({"max": 7, "lease_seconds": 600})).await;
                let leases: Vec<_> = pulled.iter().map(|delivery| &*delivery.lease).collect();
                // The loop of one who finds nothing ends: what the others hold, they acknowledge.
                if leases.is_empty() {
                    return seen;
                }
                let outcomes = consumer.acknowledge_all(&leases).await;
                assert!(outcomes.iter().all(|outcome| outcome == "acknowledged"));
                seen.extend(pulled.iter().map(|delivery| delivery.event.id));
            }
        }
    });
    let mut seen = join_all(consumers).await.concat();
    seen.sort();
    assert_eq!(seen.len(), EVENTS);
    seen.dedup();
    assert_eq!(seen.len(), EVENTS, "each delivery was pulled once");
    world.until_deliveries_are(400, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn deliveries_come_in_the_order_in_which_they_are_due_and_4_mib_at_once() {
    const EVENTS: usize = 25;
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let data = format!("\"{}\"", "x".repeat(250 * 1024));
    let mut sent = Vec::new();
    for number in 1..=EVENTS {
        sent.push(send(&world, &organization, &data).await);
        world.until_deliveries_are_stored(number).await;
    }
    let mut seen = Vec::new();
    for (max, expected) in [(3, 3), (100, 16), (100, 6), (100, 0)] {
        let pulled = consumer.pull(json!({"max": max, "lease_seconds": 600})).await;
        assert_eq!(pulled.len(), expected);
        seen.extend(pulled.iter().map(|delivery| delivery.event.id));
    }
    assert_eq!(seen, sent);
    world.finish().await;
}
