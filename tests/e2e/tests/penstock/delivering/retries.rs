//! What a receiver's answer means.

use std::time::Duration;

use e2e::{Answer, Attempt, Event, until};
use serde_json::json;

use crate::capture::free_port;
use crate::setup;

fn attempt(number: i32, outcome: &str, response_status: Option<i16>) -> Attempt {
    Attempt {
        number,
        outcome: outcome.to_owned(),
        response_status,
    }
}

#[tokio::test]
async fn a_receiver_that_fails_twice_gets_a_third_attempt_after_longer_and_longer_waits() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| Answer::status(if webhook.number <= 2 { 500 } else { 200 }));
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    let delivery = world.until_delivery_is(id, "delivered").await;
    assert_eq!(delivery.attempts, 3);
    let attempts = world.attempts_of(id).await;
    assert_eq!(
        attempts,
        [
            attempt(1, "status", Some(500)),
            attempt(2, "status", Some(500)),
            attempt(3, "delivered", Some(200)),
        ]
    );
    let webhooks = receiver.webhooks();
    assert_eq!(
        webhooks.iter().map(|webhook| webhook.id).collect::<Vec<_>>(),
        [id; 3]
    );
    // Each wait is drawn between the ceilings of the step before and its own: 50 to 200 ms, then 200 to 800.
    let waits: Vec<_> = webhooks
        .windows(2)
        .map(|pair| pair[1].arrived - pair[0].arrived)
        .collect();
    assert!(waits[0] >= Duration::from_millis(49), "{waits:?}");
    assert!(waits[1] >= Duration::from_millis(199), "{waits:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_never_recovers_leaves_a_dead_delivery_that_is_kept() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "3").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "[1]")).await;
    let delivery = world.until_delivery_is(id, "dead").await;
    assert_eq!(delivery.attempts, 3);
    let expected: Vec<_> = (1..=3)
        .map(|number| attempt(number, "status", Some(500)))
        .collect();
    assert_eq!(world.attempts_of(id).await, expected);
    assert_eq!(receiver.count(), 3);
    assert_eq!(world.stored_data(id).await, [b"[1]"]);
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_is_tried_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let answer = Answer::status(200);
        if webhook.number == 1 {
            answer.held()
        } else {
            answer
        }
    });
    // A busy machine may take a while for the second answer.
    let fields = json!({"timeout_ms": 5_000});
    world.endpoint_with(&organization, &receiver, fields).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    let attempts = world.attempts_of(id).await;
    assert_eq!(
        attempts,
        [attempt(1, "timeout", None), attempt(2, "delivered", Some(200))]
    );
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_is_gone_gets_nothing_more() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (gone, other) = (world.receiver().await, world.receiver().await);
    gone.answer(|_| Answer::status(410));
    let endpoint = world.endpoint(&organization, &gone).await;
    world.endpoint(&organization, &other).await;
    let producer = world.producer(&organization);
    let event = Event::new("a", "1");
    let first = producer.send(&event).await;
    until("the endpoint to be disabled", async || {
        let query = sqlx::query_scalar("select status from endpoints where id = $1").bind(endpoint.id);
        let status: String = query
            .fetch_one(world.database())
            .await
            .map_err(|error| error.to_string())?;
        if status == "disabled" { Ok(()) } else { Err(status) }
    })
    .await;
    let second = producer.send(&event).await;
    other.wait_for(2).await;
    let to_gone = |delivery: &e2e::Delivery| delivery.endpoint_id == endpoint.id;
    assert!(!world.deliveries_of(second).await.iter().any(to_gone));

    // The first one is kept, and stays due while the others are delivered.
    until("the next attempt of the first delivery to be due", async || {
        let query = sqlx::query_scalar(
            "select next_attempt_at < now() from deliveries where event_id = $1 and endpoint_id = $2",
        );
        let due: bool = query
            .bind(first)
            .bind(endpoint.id)
            .fetch_one(world.database())
            .await
            .map_err(|error| error.to_string())?;
        if due { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
    producer.send(&event).await;
    other.wait_for(3).await;
    assert_eq!(gone.count(), 1);
    let deliveries = world.deliveries_of(first).await;
    assert_eq!(
        deliveries.iter().find(|each| to_gone(each)).unwrap().status,
        "pending"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_says_when_to_come_back_is_left_alone_until_then() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        if webhook.number == 1 {
            Answer::status(503).with_header("retry-after", "2")
        } else {
            Answer::status(204)
        }
    });
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    let webhooks = receiver.webhooks();
    assert_eq!(webhooks.len(), 2);
    let wait = webhooks[1].arrived - webhooks[0].arrived;
    assert!(wait >= Duration::from_millis(1_999), "{wait:?}");
    // Each attempt is signed with the time at which it is made.
    let timestamps = [webhooks[0].timestamp, webhooks[1].timestamp];
    assert!(timestamps[1] >= timestamps[0] + 2, "{timestamps:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_that_could_not_be_sent_until_it_is_too_old_is_dead_without_an_attempt() {
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let setup = setup().worker_env("EGRESS_PROXY", &nobody);
    let mut world = setup.worker_env("RETRY_MAX_AGE", "1s").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    let delivery = world.until_delivery_is(id, "dead").await;
    assert_eq!(delivery.attempts, 0);
    assert!(world.attempts_of(id).await.is_empty());
    let explained = "select count(*) from deliveries where last_outcome is not null and last_attempt is null";
    assert_eq!(world.count(explained).await, 1);
    let unwell = "select count(*) from endpoint_health";
    assert_eq!(world.count(unwell).await, 0);
    world.finish().await;
}
