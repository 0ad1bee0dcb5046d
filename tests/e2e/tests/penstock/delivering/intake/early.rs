//! First attempts that begin before their events are stored, and those that must not.

use std::mem;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::{Answer, Event, Organization, Receiver, STOP_DEADLINE, Setup, World, new_event, until};
use serde_json::json;
use shared::domain::event;
use shared::wire::stream;
use sqlx::postgres::PgTransaction;

use crate::faults::held_up::{lock, until_waits};
use crate::setup;

/// Nothing can be stored until the transaction ends.
async fn nothing_is_stored(world: &World) -> PgTransaction<'static> {
    lock(world, "lock table deliveries in share mode").await
}

/// What was published arrives only when it can be stored: so many webhooks before, and so many after.
async fn is_stored_first(
    world: &World,
    receiver: &Receiver,
    held: PgTransaction<'static>,
    [before, after]: [usize; 2],
) {
    until_waits(world, "delivery-worker").await;
    assert_eq!(receiver.count(), before);
    held.rollback().await.expect("Postgres runs");
    receiver.wait_for(after).await;
}

async fn start() -> (World, Organization, Receiver) {
    start_with(setup(), 1).await
}

/// The workers start last, so that they know the endpoint from the beginning.
async fn start_with(setup: Setup, workers: usize) -> (World, Organization, Receiver) {
    let mut world = setup.replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    for _ in 0..workers {
        world.stack_mut().add_worker().await.expect("a worker starts");
    }
    (world, organization, receiver)
}

/// A new event of an organisation, with these ones of its attributes.
fn with<'a>(organization: &Organization, key: Option<&'a str>, order: Option<&'a str>) -> event::Event<'a> {
    event::Event {
        idempotency_key: key,
        ordering_key: order,
        ..new_event(organization.id, "a", "1")
    }
}

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
        .worker_env("RETRY_MAX", "10h");
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
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world
        .endpoint_with(&organization, &receiver, json!({"max_in_flight": 2}))
        .await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    let (mut sent, mut once_before) = (0, 0);
    // On a busy machine a receiver's answers may take longer than events wait for permits.
    until("all events of a frame to be written once", async || {
        let events: Vec<_> = (0..24).map(|_| with(&organization, None, None)).collect();
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

#[tokio::test]
async fn an_event_may_arrive_before_it_can_be_stored() {
    let (world, organization, receiver) = start().await;
    let held = nothing_is_stored(&world).await;
    world.publish_events(&[with(&organization, None, None)]).await;
    receiver.wait_for(1).await;
    until_waits(&world, "delivery-worker").await;
    held.rollback().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}

/// How long a worker may hold a frame in the next test.
const ACK_WAIT: Duration = Duration::from_secs(6);

/// The server goes on counting how long a worker has held a frame. Another one would store it and deliver it again.
#[tokio::test]
async fn a_frame_whose_events_have_begun_stays_with_its_worker_when_nats_restarts() {
    let ack_wait = format!("{}s", ACK_WAIT.as_secs());
    let setup = setup().worker_env("INTAKE_ACK_WAIT", &ack_wait);
    let (mut world, organization, receiver) = start_with(setup, 2).await;
    let held = nothing_is_stored(&world).await;
    let sent = Instant::now();
    world.publish_events(&[with(&organization, None, None)]).await;
    receiver.wait_for(1).await;
    let nats = world.stack_mut().nats_mut();
    nats.terminate(STOP_DEADLINE).await.unwrap();
    nats.start().await.unwrap();
    let time_over = sent + ACK_WAIT * 3 / 2;
    let jetstream = world.jetstream().await;
    until("the time for an acknowledgement to be over", async || {
        let left = time_over.saturating_duration_since(Instant::now());
        left.is_zero().then_some(()).ok_or(format!("{left:?} left"))
    })
    .await;
    let stream = jetstream.get_stream(stream::name(0)).await.unwrap();
    let consumer = stream.consumer_info(stream::CONSUMER).await.unwrap();
    assert_eq!(consumer.delivered.consumer_sequence, 1, "{consumer:?}");
    held.rollback().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn an_event_with_a_key_is_stored_before_it_is_sent() {
    let (world, organization, receiver) = start().await;
    let events = [
        with(&organization, Some("k"), None),
        with(&organization, None, Some("o")),
    ];
    for (stored, event) in (1..).zip(events) {
        let held = nothing_is_stored(&world).await;
        world.publish_events(&[event]).await;
        is_stored_first(&world, &receiver, held, [stored - 1, stored]).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_frame_that_was_sent_before_is_stored_before_its_events_are_sent() {
    let (world, organization, receiver) = start().await;
    let held = nothing_is_stored(&world).await;
    world
        .publish_events_again(&[with(&organization, None, None)])
        .await;
    is_stored_first(&world, &receiver, held, [0, 1]).await;
    world.finish().await;
}

/// A server that lost its power hands out again what it had handed out, and calls it the first time.
#[tokio::test]
async fn a_frame_that_lay_in_the_stream_at_the_start_is_stored_before_its_events_are_sent() {
    let (mut world, organization, receiver) = start().await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world.publish_events(&[with(&organization, None, None)]).await;
    let held = nothing_is_stored(&world).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    is_stored_first(&world, &receiver, held, [0, 1]).await;
    world.finish().await;
}

/// One of an event's deliveries cannot begin, because its endpoint has a pace.
#[tokio::test]
async fn an_event_with_a_delivery_that_must_wait_is_stored_first() {
    let (world, organization, receiver) = start().await;
    let paced = json!({"rate_limit_per_second": 100});
    world.endpoint_with(&organization, &receiver, paced).await;
    let held = nothing_is_stored(&world).await;
    world.publish_events(&[with(&organization, None, None)]).await;
    is_stored_first(&world, &receiver, held, [0, 2]).await;
    world.finish().await;
}

/// Nobody fails ten times in a row here.
#[tokio::test]
async fn every_success_begins_the_count_of_failures_anew() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"max_in_flight": 64});
    world.endpoint_with(&organization, &receiver, fields).await;
    let seen = AtomicU32::new(0);
    receiver.answer(move |_| {
        let number = seen.fetch_add(1, Ordering::Relaxed);
        Answer::status(if number < 45 && number.is_multiple_of(3) {
            500
        } else {
            204
        })
    });
    let events: Vec<_> = (0..45).map(|_| with(&organization, None, None)).collect();
    world.publish_events(&events).await;
    world.until_deliveries_are(45, "delivered").await;
    let log = world.stack().worker(0).log();
    assert!(!log.contains("its circuit is open"), "{log}");
    world.finish().await;
}
