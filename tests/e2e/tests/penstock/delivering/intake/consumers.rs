//! Consumers and streams that are gone, and frames that they left behind.

use std::time::Duration;

use async_nats::jetstream::{AckKind, consumer};
use e2e::{Event, Setup, Signal, World, new_event, until};
use futures_util::StreamExt as _;
use serde_json::json;
use shared::domain::event;
use shared::wire::stream;

use crate::faults::held_up::{STORING, lock_key, until_statement_waits};
use crate::setup;

#[tokio::test]
async fn a_consumer_that_was_deleted_is_made_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    for count in 2..=4 {
        let jetstream = world.jetstream().await;
        let deleted = jetstream.delete_consumer_from_stream(stream::CONSUMER, stream::name(0));
        assert!(deleted.await.expect("the consumer was there").success);
        producer.send(&Event::new("a", "1")).await;
        receiver.wait_for(count).await;
    }
    world.finish().await;
}

/// nats-server gives up a frame after the tries that its consumer allows, keeps it, and counts it as done with, as it does
/// after a stop between writing an acknowledgement and removing the frame.
async fn leave_a_frame_behind(world: &World, events: &[event::Event<'_>]) {
    let jetstream = world.jetstream().await;
    let deleted = jetstream.delete_consumer_from_stream(stream::CONSUMER, stream::name(0));
    deleted.await.expect("the consumer was there");
    let config = consumer::pull::Config {
        max_deliver: 1,
        ..stream::consumer(Duration::from_millis(100))
    };
    let consumer = jetstream.create_consumer_on_stream(config, stream::name(0));
    let mut consumer = consumer.await.expect("there is none");
    world.publish_events(events).await;
    until("the frame to be given up", async || {
        let mut messages = consumer.fetch().max_messages(1).messages().await;
        let messages = messages.as_mut().map_err(|error| error.to_string())?;
        while messages.next().await.is_some() {}
        let info = consumer.info().await.map_err(|error| error.to_string())?;
        if info.num_pending == 0 && info.num_ack_pending == 0 && info.delivered.stream_sequence > 0 {
            Ok(())
        } else {
            Err(format!("{info:?}"))
        }
    })
    .await;
}

/// Workers take in what was handed out long ago too, whatever its consumer says of it: these do so only after the test.
fn patient() -> Setup {
    setup().worker_env("INTAKE_ACK_WAIT", "60s")
}

#[tokio::test]
async fn a_frame_that_its_consumer_passed_over_is_taken_in() {
    let mut world = patient().nats_users().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let ordered = json!({"ordered": true});
    world.endpoint_with(&organization, &receiver, ordered).await;
    let of_key = |data| event::Event {
        ordering_key: Some("k"),
        ..new_event(organization.id, "a", data)
    };
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    leave_a_frame_behind(&world, &[of_key("1")]).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.publish_events(&[of_key("2")]).await;
    receiver.wait_for(2).await;
    let arrived = receiver.webhooks();
    let arrived: Vec<_> = arrived
        .iter()
        .map(|webhook| webhook.parse().data.get().to_owned())
        .collect();
    assert_eq!(arrived, ["1", "2"]);
    let log = world.stack().nats().log();
    assert!(!log.contains("Violation"), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn the_last_frame_that_a_consumer_passed_over_is_taken_in_without_another() {
    let mut world = patient().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let event = new_event(organization.id, "a", "1");
    leave_a_frame_behind(&world, &[event]).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    receiver.wait_for(1).await;
    world.finish().await;
}

/// Postgres would go on with the statement, and nobody would start the delivery that it leases.
#[tokio::test]
async fn a_worker_that_stops_while_it_takes_in_such_a_frame_stores_it_and_sends_its_webhook() {
    let mut world = patient().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let event = event::Event {
        idempotency_key: Some("k"),
        ..new_event(organization.id, "a", "1")
    };
    let key = lock_key(&world, organization.id, event.id).await;
    leave_a_frame_behind(&world, &[event]).await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    until_statement_waits(&world, "delivery-worker", STORING).await;
    world.stack().worker(0).signal(Signal::SIGTERM).unwrap();
    world.until_worker_logs("stopping").await;
    key.rollback().await.unwrap();
    let ended = world.until_worker_ends().await;
    assert!(ended.success());
    assert_eq!(receiver.count(), 1);
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.finish().await;
}

/// As nats-server does after some power cuts: it waits for an acknowledgement that never comes, and offers the frame to
/// nobody else.
#[tokio::test]
async fn a_frame_that_is_held_for_ever_is_taken_in() {
    let mut world = setup().worker_env("INTAKE_ACK_WAIT", "2s").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world
        .publish_events(&[new_event(organization.id, "a", "1")])
        .await;
    let held = world.take_frame().await;
    let holding = async {
        loop {
            held.ack_with(AckKind::Progress).await.unwrap();
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    let taking = async {
        world.stack_mut().worker_mut(0).start().await.unwrap();
        receiver.wait_for(1).await;
    };
    tokio::select! {
        () = holding => {}
        () = taking => {}
    }
    world.finish().await;
}

#[tokio::test]
async fn a_worker_whose_stream_was_deleted_ends_and_names_the_stream() {
    let mut world = setup().ingest_env("EVENT_STREAMS", "2").start().await;
    world.tolerate("the stream EVENTS-1 is gone");
    // Without it ingest-api would make the stream again.
    world.stack_mut().ingest_mut(0).kill().await.unwrap();
    world.until_worker_logs(r#"stream="EVENTS-1""#).await;
    assert!(
        world
            .jetstream()
            .await
            .delete_stream("EVENTS-1")
            .await
            .unwrap()
            .success
    );
    let ended = world.until_worker_ends().await;
    assert_eq!(ended.code(), Some(1));
    let log = world.stack().worker(0).log();
    let last = log.lines().last().unwrap_or_default();
    assert!(
        last.contains("ERROR") && last.contains("the stream EVENTS-1 is gone"),
        "{last}"
    );

    // The other stream is still there, and so is what a new worker needs.
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.stack_mut().ingest_mut(0).start().await.unwrap();
    world.finish().await;
}
