//! Tenants on the way from producers to workers: in batches and CloudEvents, in idempotency and ordering keys, in frames.

use std::collections::BTreeSet;

use e2e::{Answer, Event, accepted};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;
use shared::wire::{frame, stream};

use super::fan_out::body;
use super::{send, send_body};
use crate::calls::{self, request};
use crate::{setup, world};

#[tokio::test]
async fn tenants_stand_in_batches_and_in_cloudevents_of_every_form() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let everywhere = world
        .endpoint_with(&organization, &receiver, json!({"all_tenants": true}))
        .await;
    let producer = world.producer(&organization);
    let batch = json!([
        {"type": "a", "data": 1, "tenant": "one"},
        {"type": "a", "data": 2},
        {"type": "a", "data": 3, "tenant": "two"},
    ]);
    let sent = producer.post("/v1/events/batch").json(&batch).send().await;
    let sent = sent.expect("ingest-api answers");
    assert_eq!(sent.status(), 202);
    let outcome: Value = sent.json().await.expect("the answer is JSON");

    let cloudevent =
        |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "a", "tenant": "one"});
    let structured = producer
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .body(cloudevent("1").to_string());
    let structured = accepted(structured.send().await.expect("ingest-api answers")).await;
    let binary = producer
        .post("/v1/events")
        .header("ce-specversion", "1.0")
        .header("ce-id", "2")
        .header("ce-source", "/s")
        .header("ce-type", "a")
        .header("ce-tenant", "two")
        .header("content-type", "text/plain")
        .body("x");
    let binary = accepted(binary.send().await.expect("ingest-api answers")).await;
    world.settle().await;
    assert_eq!(body(&receiver, everywhere, structured)["tenant"], "one");
    assert_eq!(body(&receiver, everywhere, binary)["tenant"], "two");
    let mut in_batch: Vec<_> = outcome["results"]
        .as_array()
        .expect("results are a list")
        .iter()
        .map(|result| {
            let id = calls::text(result, "id").parse().expect("an id");
            body(&receiver, everywhere, id)["tenant"].clone()
        })
        .collect();
    assert_eq!(in_batch.remove(1), Value::Null);
    assert_eq!(in_batch, ["one", "two"]);
    world.finish().await;
}

#[tokio::test]
async fn equal_idempotency_keys_of_two_tenants_are_two_events_and_that_of_no_tenant_keeps_its_id() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let send = async |tenant: Option<&str>| {
        let body = json!({"type": "a", "data": 1, "idempotency_key": "k", "tenant": tenant});
        send_body(&producer, &body).await
    };
    let (none, one, two) = (send(None).await, send(Some("one")).await, send(Some("two")).await);
    assert_eq!(none, EventId::for_key(organization.id, None, "k"));
    assert_eq!(send(Some("one")).await, one);
    assert_eq!(BTreeSet::from([none, one, two]).len(), 3);
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_knows_no_tenants_cannot_read_a_frame_with_an_event_of_one() {
    let mut world = world().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    send(&producer, None, "1").await;
    send(&producer, Some("one"), "2").await;
    let jetstream = world.jetstream().await;
    let stream = jetstream
        .get_stream(stream::name(0))
        .await
        .expect("the stream is there");
    let mut versions = Vec::new();
    for sequence in 1..=stream.cached_info().state.last_sequence {
        let message = stream
            .get_raw_message(sequence)
            .await
            .expect("the frame is there");
        let version = message.headers.get(frame::VERSION_HEADER);
        versions.push(version.expect("a frame has a version").as_str().to_owned());
    }
    // A frame is there twice when its acknowledgement came late.
    versions.dedup();
    assert_eq!(versions, [frame::VERSION, frame::VERSION_WITH_TENANTS]);
    world.stack_mut().add_worker().await.expect("a worker starts");
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn an_ordering_key_is_one_of_its_tenant() {
    let mut world = setup()
        .ingest_env("EVENT_STREAMS", "3")
        .worker_env("RETRY_INITIAL", "1h")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
        Answer::status(if body["tenant"] == "failing" { 500 } else { 204 })
    });
    // A second attempt would come in an hour.
    let fields = json!({"all_tenants": true, "ordered": true, "on_exhausted": "block", "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let producer = world.producer(&organization);
    let send = async |tenant: &str| {
        let body = json!({"type": "a", "data": 1, "ordering_key": "k", "tenant": tenant});
        send_body(&producer, &body).await
    };
    let (blocking, behind) = (send("failing").await, send("failing").await);
    receiver.wait_for(1).await;
    let (first, second) = (send("other").await, send("other").await);
    for id in [first, second] {
        world.until_delivery_is(id, "delivered").await;
    }
    let taken: Vec<_> = receiver
        .webhooks()
        .iter()
        .filter(|webhook| webhook.was_taken())
        .map(|webhook| webhook.id)
        .collect();
    assert_eq!(taken, [first, second]);
    let waiting = world.until_delivery_is(behind, "pending").await;
    assert_eq!((waiting.attempts, receiver.webhooks_of(blocking).len()), (0, 1));
    receiver.answer(|_| Answer::status(204));
    let path = format!("/v1/events/{blocking}/replay");
    let replay = request(&world, 0, Method::POST, &path, &organization.key);
    assert_eq!(calls::status(replay).await, 202);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn one_organisations_events_use_every_stream_and_those_of_one_key_stay_together() {
    const STREAMS: u32 = 3;
    let mut world = setup()
        .replicas(1, 0)
        .ingest_env("EVENT_STREAMS", &STREAMS.to_string())
        .start()
        .await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    for number in 0..40 {
        producer.send(&Event::new("a", number.to_string())).await;
    }
    let jetstream = world.jetstream().await;
    let frames = async || {
        let infos: Vec<_> = jetstream.streams().collect().await;
        let infos = infos.into_iter().map(|info| info.expect("nats-server runs"));
        let mut frames: Vec<_> = infos
            .filter(|info| info.config.name.starts_with(stream::NAME_PREFIX))
            .map(|info| (info.config.name, info.state.messages))
            .collect();
        frames.sort();
        frames
    };
    let before = frames().await;
    assert_eq!(before.len(), STREAMS as usize);
    assert!(before.iter().all(|(_, messages)| *messages > 0), "{before:?}");
    for _ in 0..10 {
        send_body(&producer, &json!({"type": "a", "data": 1, "ordering_key": "k"})).await;
    }
    let grown = frames().await.into_iter().zip(before);
    let grown: Vec<_> = grown.map(|((_, after), (_, before))| after - before).collect();
    let mut sorted = grown.clone();
    sorted.sort_unstable();
    // A frame is there twice when its acknowledgement came late.
    assert!(sorted[..2] == [0, 0] && sorted[2] >= 10, "{grown:?}");
    world.stack_mut().add_worker().await.expect("a worker starts");
    world.settle().await;
    world.finish().await;
}
