//! What is stored in one statement: an event, its deliveries, and what came of their first attempts.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};

use e2e::{Answer, Event, new_event, until};
use serde_json::json;

use super::early::{start, start_with, with};
use crate::setup;

/// Deliveries that were stored in one statement with their events and what came of them.
const WRITTEN_ONCE: &str =
    "select count(*) from deliveries d join events e on e.id = d.event_id and e.xmin = d.xmin
                            where d.status = 'delivered'";

#[tokio::test]
async fn an_event_that_is_delivered_at_once_is_written_once() {
    let (world, organization, _receiver) = start().await;
    let producer = world.producer(&organization);
    // On a busy machine an answer may take longer than events wait for one.
    let id = until("an event to be written once", async || {
        let id = producer.send(&Event::new("a", "1")).await;
        world.until_delivery_is(id, "delivered").await;
        match world.count(WRITTEN_ONCE).await {
            0 => Err("none".to_owned()),
            _ => Ok(id),
        }
    })
    .await;
    assert_eq!(world.count("select count(*) from attempts").await, 0);
    let attempts = world.attempts_of(id).await;
    assert_eq!(attempts.len(), 1);
    assert_eq!(
        (
            attempts[0].number,
            attempts[0].outcome.as_str(),
            attempts[0].response_status
        ),
        (1, "delivered", Some(204))
    );
    world.finish().await;
}

#[tokio::test]
async fn a_first_attempt_that_fails_is_written_once_too_and_the_next_success_ends_the_failure() {
    let setup = setup()
        .worker_env("RETRY_INITIAL", "10h")
        .worker_env("RETRY_MAX", "10h")
        .worker_env("CIRCUIT_FAILURES", "1000000");
    let (world, organization, receiver) = start_with(setup, 1).await;
    let producer = world.producer(&organization);
    let failed_at_once =
        "select count(*) from deliveries d join events e on e.id = d.event_id and e.xmin = d.xmin
                          where d.status = 'pending' and d.attempts = 1 and d.last_failure = 'status'
                            and d.last_response_status = 500 and d.lease_token is null
                            and d.next_attempt_at > now()";
    let failures = "select coalesce(sum(consecutive_failures), 0)::bigint from endpoint_health";
    receiver.answer(|_| Answer::status(500));
    // On a busy machine an answer may take longer than events wait for one.
    let id = until("an event to be written once", async || {
        let id = producer.send(&Event::new("a", "1")).await;
        until("the failure to be counted", async || {
            match world.attempts_of(id).await.len() {
                0 => Err("it is not stored".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
        match world.count(failed_at_once).await {
            0 => Err("none".to_owned()),
            _ => Ok(id),
        }
    })
    .await;
    let attempts = world.attempts_of(id).await;
    assert_eq!(
        (
            attempts.len(),
            attempts[0].outcome.as_str(),
            attempts[0].response_status
        ),
        (1, "status", Some(500))
    );
    until("the failure to be counted", async || {
        match world.count(failures).await {
            0 => Err("it is not".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    receiver.answer(|_| Answer::status(204));
    until("a success to be written once", async || {
        let id = producer.send(&Event::new("a", "1")).await;
        world.until_delivery_is(id, "delivered").await;
        match world.count(WRITTEN_ONCE).await {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
    until("the failures to be forgotten", async || {
        match world.count(failures).await {
            0 => Ok(()),
            failures => Err(failures.to_string()),
        }
    })
    .await;
    world.finish().await;
}

/// Without that, a short standstill would send all that follows through the table.
#[tokio::test]
async fn events_that_find_no_permit_wait_for_one_and_are_written_once_too() {
    // What has gone through the table once is soon over, so that the next frame does not wait for it too.
    let setup = setup().worker_env("CLAIM_INTERVAL", "50ms");
    let mut world = setup.replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world
        .endpoint_with(&organization, &receiver, json!({"max_in_flight": 2}))
        .await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    let (mut sent, mut once_before) = (0, 0);
    // On a busy machine a receiver's answers may take longer than events wait for permits.
    until("all events of a frame to be written once", async || {
        // Two find permits, two wait for the answers to these, and two until those are stored.
        let events: Vec<_> = (0..6).map(|_| with(&organization, None, None)).collect();
        world.publish_events(&events).await;
        sent += events.len();
        receiver.wait_for(sent).await;
        world
            .until_deliveries_are(i64::try_from(sent).unwrap(), "delivered")
            .await;
        let once = world.count(WRITTEN_ONCE).await;
        let of_this = usize::try_from(once - mem::replace(&mut once_before, once)).unwrap();
        if of_this == events.len() {
            Ok(())
        } else {
            Err(of_this.to_string())
        }
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn events_for_a_receiver_that_hangs_go_into_the_table_and_hold_up_no_other_of_their_frame() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let (hanging, other) = (world.receiver().await, world.receiver().await);
    hanging.answer(|_| Answer::status(204).held());
    let fields = json!({"max_in_flight": 1, "event_types": ["hanging"], "timeout_ms": 30_000});
    world.endpoint_with(&organization, &hanging, fields).await;
    world
        .endpoint_with(&organization, &other, json!({"event_types": ["other"]}))
        .await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    let mut events: Vec<_> = (0..5)
        .map(|_| new_event(organization.id, "hanging", "1"))
        .collect();
    events.push(new_event(organization.id, "other", "1"));
    world.publish_events(&events).await;
    other.wait_for(1).await;
    world.until_deliveries_are(1, "delivered").await;
    world.until_deliveries_are(5, "pending").await;
    assert_eq!(hanging.count(), 1);
    hanging.release();
    hanging.wait_for(5).await;
    world.until_deliveries_are(6, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn the_attempts_before_the_last_have_rows_of_their_own() {
    let (world, organization, receiver) = start().await;
    let seen = AtomicU32::new(0);
    receiver.answer(move |_| {
        Answer::status(if seen.fetch_add(1, Ordering::Relaxed) < 2 {
            500
        } else {
            204
        })
    });
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    assert_eq!(world.count("select count(*) from attempts").await, 2);
    let attempts = world.attempts_of(id).await;
    let shown: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, attempt.outcome.as_str(), attempt.response_status))
        .collect();
    assert_eq!(
        shown,
        [
            (1, "status", Some(500)),
            (2, "status", Some(500)),
            (3, "delivered", Some(204))
        ]
    );
    world.finish().await;
}
