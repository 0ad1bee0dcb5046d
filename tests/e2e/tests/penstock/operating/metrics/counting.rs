//! What a worker counts is what happened.

use e2e::{Answer, Event, World, until};
use serde_json::json;

use crate::setup;

async fn counted(world: &World, name: &str) -> f64 {
    let value = world.gauge(world.stack().worker(0), name).await;
    value.unwrap_or(0.0)
}

async fn until_counted(world: &World, name: &str, expected: f64) {
    until(&format!("{name} to be {expected}"), async || {
        match counted(world, name).await {
            seen if seen.to_bits() == expected.to_bits() => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

/// Replays a delivered event, to an endpoint that was made after it if so wanted: its age is not measured again.
async fn a_replay_is_not_measured(to_a_new_endpoint: bool) {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let id = producer.send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    let mut replay = producer.post(&format!("/v1/events/{id}/replay"));
    if to_a_new_endpoint {
        let late = world.endpoint(&organization, &receiver).await;
        replay = replay.json(&json!({"endpoint_id": late.id}));
    }
    let answer = replay.send().await.expect("ingest-api answers");
    assert!(answer.status().is_success());
    until_counted(&world, "penstock_delivery_results_total", 2.0).await;
    until_counted(&world, "penstock_event_to_delivery_seconds_count", 1.0).await;
    world.finish().await;
}

#[tokio::test]
async fn a_replay_does_not_count_as_a_slow_delivery() {
    a_replay_is_not_measured(false).await;
}

#[tokio::test]
async fn nor_does_a_replay_to_an_endpoint_that_never_had_the_event() {
    a_replay_is_not_measured(true).await;
}

#[tokio::test]
async fn a_result_whose_lease_was_lost_is_no_result() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let patient = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, patient).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    world.until_delivery_is(id, "pending").await;
    // As if another worker had it, and died.
    let lose = "update deliveries set lease_token = gen_random_uuid()";
    sqlx::query(lose).execute(world.database()).await.unwrap();
    receiver.release();
    until_counted(&world, "penstock_leases_lost_total", 1.0).await;
    assert_eq!(world.until_delivery_is(id, "pending").await.attempts, 0);
    let due = "update deliveries set next_attempt_at = now()";
    sqlx::query(due).execute(world.database()).await.unwrap();
    assert_eq!(world.until_delivery_is(id, "delivered").await.attempts, 1);
    until_counted(&world, "penstock_delivery_results_total", 1.0).await;
    world.finish().await;
}
