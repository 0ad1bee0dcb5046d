//! First attempts that begin before their events are stored, and those that must not.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use e2e::{Answer, Organization, Receiver, STOP_DEADLINE, Setup, World, new_event, until};
use serde_json::json;
use shared::domain::event;
use shared::wire::stream;
use sqlx::postgres::PgTransaction;

use crate::faults::held_up::{lock, until_waits};
use crate::setup;

/// Nothing can be stored until the transaction ends.
pub(super) async fn nothing_is_stored(world: &World) -> PgTransaction<'static> {
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

pub(super) async fn start() -> (World, Organization, Receiver) {
    start_with(setup(), 1).await
}

/// The workers start last, so that they know the endpoint from the beginning.
pub(super) async fn start_with(setup: Setup, workers: usize) -> (World, Organization, Receiver) {
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
pub(super) fn with<'a>(
    organization: &Organization,
    key: Option<&'a str>,
    order: Option<&'a str>,
) -> event::Event<'a> {
    event::Event {
        idempotency_key: key,
        ordering_key: order,
        ..new_event(organization.id, "a", "1")
    }
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

/// How long a worker may hold a frame in some of these tests.
const ACK_WAIT: Duration = Duration::from_secs(10);

/// Waits until the server has waited long enough for the acknowledgement of what was sent then.
async fn until_time_is_over(sent: Instant) {
    let time_over = sent + ACK_WAIT * 3 / 2;
    until("the time for an acknowledgement to be over", async || {
        let left = time_over.saturating_duration_since(Instant::now());
        left.is_zero().then_some(()).ok_or(format!("{left:?} left"))
    })
    .await;
}

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
    let jetstream = world.jetstream().await;
    until_time_is_over(sent).await;
    let stream = jetstream.get_stream(stream::name(0)).await.unwrap();
    let consumer = stream.consumer_info(stream::CONSUMER).await.unwrap();
    assert_eq!(consumer.delivered.consumer_sequence, 1, "{consumer:?}");
    held.rollback().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}

/// A worker stores a number of batches at once. What it was handed besides has not begun, and would begin twice if it came again.
#[tokio::test]
async fn frames_that_wait_for_room_in_a_worker_stay_with_it() {
    let ack_wait = format!("{}s", ACK_WAIT.as_secs());
    let setup = setup().worker_env("INTAKE_ACK_WAIT", &ack_wait);
    let mut world = setup.replicas(1, 0).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"max_in_flight": 500});
    world.endpoint_with(&organization, &receiver, fields).await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    let held = nothing_is_stored(&world).await;
    let stream = world.jetstream().await.get_stream(stream::name(0)).await.unwrap();
    let consumer = async || stream.consumer_info(stream::CONSUMER).await.unwrap();
    let mut sent = 0;
    until("the worker to take no more frames", async || {
        for _ in 0..10 {
            world.publish_events(&[with(&organization, None, None)]).await;
        }
        sent += 10;
        match consumer().await.num_pending {
            left if left > 50 => Ok(()),
            left => Err(left.to_string()),
        }
    })
    .await;
    until_time_is_over(Instant::now()).await;
    held.rollback().await.unwrap();
    world.until_deliveries_are(sent, "delivered").await;
    world.settle().await;
    let handed_out = consumer().await.delivered;
    assert_eq!(handed_out.consumer_sequence, handed_out.stream_sequence);
    assert_eq!(receiver.count(), usize::try_from(sent).unwrap());
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
    let fields = json!({"max_in_flight": 64, "timeout_ms": 30_000});
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
