//! Frames that are in their stream twice: ingest-api did not hear of the first copy, which comes late.

use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::PullConsumer;
use e2e::new_event;
use futures_util::StreamExt as _;
use shared::domain::event::Event;
use shared::wire::stream;

use super::{one, ordered_endpoint, quick, taken};

#[tokio::test]
async fn an_event_whose_late_copy_is_stored_first_keeps_the_place_of_the_earlier_one() {
    let mut world = quick().worker_env("INTAKE_ACK_WAIT", "60s").start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let payloads = [0, 1].map(|number| one("a", number).1);
    let [first, second] = [&payloads[0], &payloads[1]].map(|data| Event {
        ordering_key: Some("a"),
        ..new_event(organization.id, "a", data)
    });
    world.publish_events(&[first]).await;
    let jetstream = world.jetstream().await;
    let consumer: PullConsumer = jetstream
        .get_consumer_from_stream(stream::CONSUMER, stream::name(0))
        .await
        .expect("the worker has made it");
    let mut messages = consumer.messages().await.unwrap();
    let held = messages.next().await.unwrap().unwrap();
    drop(messages);

    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.publish_events(&[second]).await;
    world.publish_events(&[first]).await;
    let parked = "select count(*) from deliveries where parked";
    world
        .until_count_is("the late copy to be parked behind the second event", parked, 1)
        .await;
    held.ack_with(AckKind::Nak(None)).await.unwrap();
    receiver.wait_for(2).await;
    world.settle().await;
    assert_eq!(taken(&receiver)["a"], [0, 1]);
    world.finish().await;
}
