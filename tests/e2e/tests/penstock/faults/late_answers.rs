//! Acknowledgements that come late, or for something else: what nats-server said of a frame that it has no more, and what
//! a worker says of a frame whose place another one has.

use std::time::{Duration, Instant};

use async_nats::jetstream::Message;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::stream::State;
use e2e::{Event, Link, Producer, World, accepted, until};
use futures_util::StreamExt as _;
use reqwest::StatusCode;
use shared::domain::id::EventId;
use shared::wire::stream;
use sqlx::postgres::PgTransaction;

use crate::faults::held_up::{lock, lock_key};
use crate::setup;

/// Longer than a worker stores frames without looking whether the stream is still the same.
const MOMENT: Duration = Duration::from_millis(500);

async fn state(world: &World) -> Result<State, String> {
    let stream = world.jetstream().await.get_stream(stream::name(0)).await;
    let stream = stream.map_err(|error| error.to_string())?;
    Ok(stream.cached_info().state.clone())
}

#[tokio::test]
async fn a_frame_that_the_server_has_seen_and_lost_is_stored_again() {
    let mut world = setup().replicas(0, 0).start().await;
    let link = Link::to_nats(world.stack()).await;
    let replica = link.nats_replica().with_env("PUBLISH_TIMEOUT", "30s");
    world
        .stack_mut()
        .add_ingest_with(replica)
        .await
        .expect("it starts");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;

    link.swallow_answers(true);
    let event = Event::new("a", "2");
    let losing = async {
        let last = until("the frame to be in the stream", async || {
            let state = state(&world).await?;
            if state.messages > 1 {
                Ok(state.last_sequence)
            } else {
                Err(state.messages.to_string())
            }
        })
        .await;
        let stream = world.jetstream().await.get_stream(stream::name(0)).await.unwrap();
        assert!(stream.delete_message(last).await.unwrap());
        link.swallow_answers(false);
    };
    let (stored, ()) = tokio::join!(producer.send(&event), losing);

    world.stack_mut().add_worker().await.expect("it starts");
    world.until_delivery_is(stored, "delivered").await;
    world.finish().await;
}

/// Lets a worker hold the first frame of the stream until the transaction ends.
async fn hold_a_frame(world: &World, producer: &Producer) -> (EventId, PgTransaction<'static>) {
    let held_up = lock(world, "lock table events in access exclusive mode").await;
    let held = producer.send(&Event::new("a", "1")).await;
    until_a_worker_has_a_frame(world).await;
    (held, held_up)
}

async fn until_a_worker_has_a_frame(world: &World) {
    until("a worker to have the frame", async || {
        let consumer = world.consumer().await?;
        match consumer.cached_info().num_ack_pending {
            1.. => Ok(()),
            other => Err(format!("{other} frames")),
        }
    })
    .await;
}

/// Sends an event as soon as it is accepted.
async fn until_sent(producer: &Producer, event: &Event) -> EventId {
    until("an event to be accepted", async || {
        match producer
            .try_send(event)
            .await
            .map_err(|error| error.to_string())?
        {
            answer if answer.status() == StatusCode::ACCEPTED => Ok(accepted(answer).await),
            answer => Err(answer.status().to_string()),
        }
    })
    .await
}

/// Puts another frame at the same place, and hands it out as if to a worker that died with it.
async fn hand_out_another(world: &World, producer: &Producer) -> (EventId, Message) {
    let other = until_sent(producer, &Event::new("a", "2")).await;
    let jetstream = world.jetstream().await;
    let config = stream::consumer(Duration::from_secs(2));
    let consumer: Consumer<pull::Config> = jetstream
        .create_consumer_on_stream(config, stream::name(0))
        .await
        .expect("the stream is there");
    let fetched = consumer.fetch().max_messages(1).messages().await;
    let mut messages = fetched.expect("NATS answers");
    let message = messages.next().await.expect("the frame is handed out");
    let message = message.expect("it is whole");
    assert_eq!(
        message.info().expect("it came out of a stream").stream_sequence,
        1
    );
    (other, message)
}

#[tokio::test]
async fn a_late_acknowledgement_removes_no_frame_of_a_server_that_began_anew() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let (held, held_up) = hold_a_frame(&world, &producer).await;

    let store = world.stack().data_dir().join("nats");
    let nats = world.stack_mut().nats_mut();
    nats.kill().await.unwrap();
    std::fs::remove_dir_all(&store).unwrap();
    nats.start().await.unwrap();
    // The worker gets another frame at the same place, and cannot store that one either.
    let other = until_sent(&producer, &Event::new("a", "2").with_idempotency_key("k")).await;
    until_a_worker_has_a_frame(&world).await;
    let key = lock_key(&world, organization.id, other).await;

    held_up.rollback().await.unwrap();
    world.until_delivery_is(held, "delivered").await;
    world
        .until_worker_logs("a batch has outlived its connection")
        .await;
    // More than one where the frame was sent again.
    assert!(state(&world).await.unwrap().messages > 0);
    key.rollback().await.unwrap();
    world.until_delivery_is(other, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn a_late_acknowledgement_removes_no_frame_of_a_stream_that_was_made_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let (held, held_up) = hold_a_frame(&world, &producer).await;
    let begun = Instant::now();

    let deleted = world.jetstream().await.delete_stream(stream::name(0)).await;
    assert!(deleted.unwrap().success);
    let (other, _message) = hand_out_another(&world, &producer).await;
    // A worker looks whether the stream is still the same after it has held a frame for a moment.
    until("that moment to be over", async || {
        let elapsed = begun.elapsed();
        (elapsed > MOMENT).then_some(()).ok_or(format!("{elapsed:?}"))
    })
    .await;

    held_up.rollback().await.unwrap();
    world.until_delivery_is(held, "delivered").await;
    world.until_delivery_is(other, "delivered").await;
    world.finish().await;
}
