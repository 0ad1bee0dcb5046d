//! Events with an ordering key at endpoints that want them in order.

mod following;
mod again;
mod copies;

use std::collections::BTreeMap;

use async_nats::HeaderMap;
use e2e::{Answer, Endpoint, Organization, Receiver, Setup, Webhook, World, until};
use serde_json::json;
use shared::domain::clock::UnixMicros;
use shared::domain::event::Event;
use shared::domain::id::EventId;
use shared::wire::frame::{self, EncodedEvent};
use shared::wire::stream;

use crate::setup;

/// Retries soon and for long, and no circuit opens.
fn quick() -> Setup {
    let setup = setup()
        .worker_env("RETRY_FACTOR", "1")
        .worker_env("RETRY_INITIAL", "50ms")
        .worker_env("RETRY_ATTEMPTS", "1000");
    setup.worker_env("CIRCUIT_FAILURES", "1000000")
}

async fn ordered_endpoint(
    world: &mut World,
    organization: &Organization,
    on_exhausted: &str,
) -> (Receiver, Endpoint) {
    let receiver = world.receiver().await;
    let fields = json!({"max_in_flight": 30, "ordered": true, "on_exhausted": on_exhausted});
    let endpoint = world.endpoint_with(organization, &receiver, fields).await;
    (receiver, endpoint)
}

/// Puts a frame of events, each a key and a payload, into the first stream; returns its sequence number.
async fn publish(
    world: &World,
    organization: &Organization,
    version: &str,
    events: &[(String, String)],
) -> u64 {
    let accepted_at = UnixMicros::now();
    let events = events.iter().map(|(key, data)| {
        EncodedEvent::new(&Event {
            id: EventId::at(accepted_at),
            org_id: organization.id,
            accepted_at,
            ordering_key: Some(key),
            data: data.as_bytes(),
            ..Event::sample()
        })
    });
    let events: Vec<_> = events.collect();
    let mut headers = HeaderMap::new();
    headers.insert(frame::VERSION_HEADER, version);
    let jetstream = world.jetstream().await;
    let sent = jetstream
        .publish_with_headers(stream::subject(0), headers, frame::encode(events.iter()))
        .await;
    sent.expect("nats-server runs")
        .await
        .expect("the stream takes it")
        .sequence
}

fn one(key: &str, number: usize) -> (String, String) {
    (key.to_owned(), json!({"key": key, "number": number}).to_string())
}

async fn send(world: &World, organization: &Organization, key: &str, number: usize) {
    publish(world, organization, frame::VERSION, &[one(key, number)]).await;
}

/// The key and number in a payload.
fn read(webhook: &Webhook) -> (String, usize) {
    let data: serde_json::Value =
        serde_json::from_str(webhook.parse().data.get()).expect("it is what the test wrote");
    let number = data["number"].as_u64().expect("it is what the test wrote");
    (
        data["key"]
            .as_str()
            .expect("it is what the test wrote")
            .to_owned(),
        usize::try_from(number).expect("it is what the test wrote"),
    )
}

/// The numbers of each key in the order in which they were first taken.
fn taken(receiver: &Receiver) -> BTreeMap<String, Vec<usize>> {
    let mut taken = BTreeMap::<_, Vec<_>>::new();
    for webhook in receiver.webhooks().iter().filter(|webhook| webhook.was_taken()) {
        let (key, number) = read(webhook);
        let numbers = taken.entry(key).or_default();
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    taken
}

#[tokio::test]
async fn each_keys_events_arrive_in_order_while_a_worker_is_killed_and_the_receiver_fails_at_random() {
    const KEYS: usize = 20;
    let mut world = quick().replicas(1, 3).start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    receiver.answer(|webhook| {
        let [.., last] = webhook.id.as_uuid().into_bytes();
        let fails = usize::from(last % 5) == webhook.number - 1;
        Answer::status(if fails && last % 5 < 2 { 500 } else { 204 })
    });
    for frame_number in 0..100 {
        let numbers = frame_number * 10..(frame_number + 1) * 10;
        let events = numbers.map(|number| one(&format!("key-{}", number % KEYS), number / KEYS));
        let events: Vec<_> = events.collect();
        publish(&world, &organization, frame::VERSION, &events).await;
        if frame_number == 30 {
            receiver.wait_for(100).await;
            world.stack_mut().worker_mut(1).kill().await.unwrap();
        }
    }
    world.settle().await;
    world.until_deliveries_are(1_000, "delivered").await;
    let taken = taken(&receiver);
    assert_eq!(taken.len(), KEYS);
    for (key, numbers) in taken {
        assert_eq!(numbers, (0..50).collect::<Vec<_>>(), "{key}");
    }
    let failed = receiver
        .webhooks()
        .iter()
        .filter(|webhook| !webhook.was_taken())
        .count();
    assert!(failed >= 100, "only {failed} failed");
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_that_fails_holds_up_its_own_key_and_no_other() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    receiver.answer(|webhook| {
        Answer::status(if read(webhook) == ("a".to_owned(), 0) {
            500
        } else {
            204
        })
    });
    for number in 0..3 {
        send(&world, &organization, "a", number).await;
        send(&world, &organization, "b", number).await;
    }
    until("the other key's events", async || {
        match taken(&receiver).get("b") {
            Some(numbers) if *numbers == [0, 1, 2] => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    // Its next attempts come, and nothing else of its key.
    let failures = receiver.count();
    receiver.wait_for(failures + 3).await;
    assert_eq!(taken(&receiver).get("a"), None);
    assert!(
        receiver
            .webhooks()
            .iter()
            .all(|webhook| read(webhook).0 == "b" || read(webhook).1 == 0)
    );
    receiver.answer(|_| Answer::status(204));
    world.settle().await;
    assert_eq!(taken(&receiver)["a"], [0, 1, 2]);
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_out_of_attempts_is_skipped_or_holds_up_its_key_as_the_endpoint_says() {
    let mut world = quick().worker_env("RETRY_ATTEMPTS", "2").start().await;
    let organization = world.organization().await;
    let (skipping, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    let (blocking, endpoint) = ordered_endpoint(&mut world, &organization, "block").await;
    for receiver in [&skipping, &blocking] {
        receiver.answer(|webhook| Answer::status(if read(webhook).1 == 0 { 500 } else { 204 }));
    }
    send(&world, &organization, "a", 0).await;
    send(&world, &organization, "a", 1).await;
    until(
        "the second event where the first is skipped",
        async || match taken(&skipping).get("a") {
            Some(numbers) if *numbers == [1] => Ok(()),
            other => Err(format!("{other:?}")),
        },
    )
    .await;
    assert_eq!(skipping.count(), 3);
    blocking.wait_for(5).await;
    let deliveries = world.deliveries().await;
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery.endpoint_id != endpoint.id || delivery.status == "pending")
    );
    assert!(taken(&blocking).is_empty());
    blocking.answer(|_| Answer::status(204));
    world.settle().await;
    assert_eq!(taken(&blocking)["a"], [0, 1]);
    world.finish().await;
}

#[tokio::test]
async fn an_event_waits_until_everything_before_it_in_its_stream_is_stored() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    // No worker of this release can store this one, and it is not set aside at once.
    let first = publish(&world, &organization, "of a later release", &[one("a", 0)]).await;
    send(&world, &organization, "a", 1).await;
    world.until_deliveries_are(1, "pending").await;
    // One without a key goes past, through the same table.
    let unordered = e2e::Event::new("a", r#"{"key": "none", "number": 0}"#);
    let query = sqlx::query("update endpoints set rate_limit_per_second = 1000");
    query.execute(world.database()).await.unwrap();
    world.producer(&organization).send(&unordered).await;
    world.until_deliveries_are(1, "delivered").await;
    assert_eq!(taken(&receiver).into_keys().collect::<Vec<_>>(), ["none"]);

    let stream = world.jetstream().await.get_stream(stream::name(0)).await.unwrap();
    stream.delete_message(first).await.unwrap();
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(taken(&receiver)["a"], [1]);
    world.finish().await;
}

#[tokio::test]
async fn an_event_of_a_stream_that_was_deleted_does_not_wait_for_the_stream_that_took_its_name() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (receiver, endpoint) = ordered_endpoint(&mut world, &organization, "skip").await;
    receiver.answer(|_| Answer::status(500));
    send(&world, &organization, "a", 0).await;
    receiver.wait_for(1).await;
    let disable = sqlx::query("update endpoints set status = 'disabled' where id = $1").bind(endpoint.id);
    disable.execute(world.database()).await.unwrap();
    // As if its stream had been far ahead of the one that is there.
    let ahead = sqlx::query("update deliveries set ordinal = ordinal + 1000000 * 1024");
    ahead.execute(world.database()).await.unwrap();
    receiver.answer(|_| Answer::status(204));
    let enable = sqlx::query("update endpoints set status = 'enabled' where id = $1").bind(endpoint.id);
    enable.execute(world.database()).await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn a_probe_for_which_nothing_was_due_is_not_spent() {
    // The circuit's pause ends long before the retry is due.
    let setup = setup()
        .worker_env("CIRCUIT_FAILURES", "1")
        .worker_env("CIRCUIT_PAUSE", "100ms")
        .worker_env("RETRY_FACTOR", "1");
    let mut world = setup.worker_env("RETRY_INITIAL", "3s").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    // A probe that was spent would come again after the timeout, and longer than a test waits.
    let fields = json!({"ordered": true, "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    receiver.answer(|webhook| Answer::status(if webhook.number == 1 { 500 } else { 204 }));
    send(&world, &organization, "k", 1).await;
    receiver.wait_for(2).await;
    world.settle().await;
    world.finish().await;
}
