//! Idempotency: repeats in a row, at the same time, a day later, and of ten thousand events.

use std::collections::HashSet;

use e2e::{Answer, DEADLINE, Event, STOP_DEADLINE, World, accepted};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::setup;

#[tokio::test]
async fn a_repeated_idempotency_key_has_one_id_and_one_delivery_on_every_replica_and_after_a_restart() {
    let mut world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let in_body = Event::new("a", "1").with_idempotency_key("order-1");
    let plain = Event::new("a", "1");

    let mut ids = Vec::new();
    for restarted in [false, true] {
        if restarted {
            world.restart_everything().await;
        }
        for replica in [0, 1] {
            let producer = world.producer_at(&organization, replica);
            ids.push(producer.send(&in_body).await);
            for header in ["\"order-1\"", "order-1"] {
                let request = producer
                    .post_event(plain.body())
                    .header("idempotency-key", header);
                ids.push(accepted(request.send().await.unwrap()).await);
            }
        }
        world.settle().await;
    }
    assert_eq!(ids.len(), 12);
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(receiver.count(), 1);
    assert_eq!(world.stored_data(ids[0]).await, [b"1"]);
    world.finish().await;
}

#[tokio::test]
async fn repeats_that_come_at_the_same_time_are_delivered_once() {
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let event = Event::new("a", "1").with_idempotency_key("order-1");
    let producers = [
        world.producer_at(&organization, 0),
        world.producer_at(&organization, 1),
    ];
    let sends = (0..60).map(|count: usize| producers[count % 2].send(&event));
    let mut ids = join_all(sends).await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    world.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(world.stored_data(ids[0]).await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_that_comes_again_after_a_day_is_a_new_event_beside_the_old_one() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000, "max_in_flight": 200});
    world.endpoint_with(&organization, &receiver, fields).await;
    let producer = world.producer(&organization);
    // Many, so that results of the old and of the new one are written together.
    let send = async || {
        let sends = (0..50).map(async |number| {
            let event = Event::new("a", "1").with_idempotency_key(format!("order-{number}"));
            producer.send(&event).await
        });
        join_all(sends).await
    };
    let old = send().await;
    receiver.wait_for(50).await;
    let a_day = "update idempotency_keys set accepted_at = accepted_at - interval '24 hours'";
    sqlx::query(a_day).execute(world.database()).await.unwrap();
    assert_eq!(send().await, old);
    receiver.wait_for(100).await;
    receiver.release();
    world.settle().await;
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries.len(), 100);
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery.status == "delivered" && delivery.attempts == 1)
    );
    assert_eq!(receiver.count(), 100);
    world.finish().await;
}

const EVENTS: usize = 10_000;

const BATCH: usize = 500;

/// Sends every event once, in batches, and returns the ids.
async fn send_all(world: &World, key: &str, replica: usize) -> HashSet<String> {
    let url = format!("{}/v1/events/batch", world.stack().ingest(replica).url());
    let batches = stream::iter((0..EVENTS).step_by(BATCH)).map(|first| {
        let numbers = first..first + BATCH;
        let lines = numbers.map(|n| format!(r#"{{"type":"a","data":{n},"idempotency_key":"key-{n}"}}"#));
        let body = lines.collect::<Vec<_>>().join("\n");
        let request = world
            .http()
            .post(&url)
            .bearer_auth(key)
            .header("content-type", "application/x-ndjson");
        async {
            let answer = request.body(body).send().await.expect("ingest-api answers");
            assert_eq!(answer.status(), 202);
            let outcome: Value = answer.json().await.expect("the answer is JSON");
            let results = outcome["results"].as_array().expect("there are results").clone();
            results
                .into_iter()
                .map(|result| result["id"].as_str().expect("it was accepted").to_owned())
        }
    });
    let ids: Vec<_> = batches.buffer_unordered(4).collect().await;
    ids.into_iter().flatten().collect()
}

#[tokio::test]
async fn ten_thousand_events_sent_three_times_over_a_restart_are_delivered_ten_thousand_times() {
    let setup = setup().replicas(2, 2).ingest_env("PUBLISH_TIMEOUT", "20s");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let patient = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, patient).await;

    let first = send_all(&world, &organization.key, 0).await;
    assert_eq!(first.len(), EVENTS);
    assert_eq!(
        send_all(&world, &organization.key, 1).await,
        first,
        "another replica gives the same ids"
    );
    let replica = world.stack_mut().ingest_mut(0);
    let stopped = replica.terminate(STOP_DEADLINE).await.expect("it runs");
    assert!(stopped.success(), "{stopped}");
    replica.start().await.expect("it starts again");
    assert_eq!(
        send_all(&world, &organization.key, 0).await,
        first,
        "and so does one that was started again"
    );

    world.settle_with(DEADLINE * 4).await;
    assert_eq!(receiver.count(), EVENTS);
    let delivered: HashSet<_> = receiver
        .webhooks()
        .iter()
        .map(|webhook| webhook.id.to_string())
        .collect();
    assert_eq!(delivered, first);
    world.finish().await;
}
