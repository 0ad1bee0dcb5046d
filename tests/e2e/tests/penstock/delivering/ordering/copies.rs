//! Frames that are in their stream twice: ingest-api did not hear of the first copy, which comes late.

use async_nats::jetstream::AckKind;
use e2e::new_event;
use shared::domain::event::Event;

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
    let held = world.take_frame().await;

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
