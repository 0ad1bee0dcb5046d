//! What waits in a stream: too much of it, and what no worker can read.

use e2e::{Event, accepted, transcript};
use reqwest::StatusCode;
use shared::wire::{frame, stream};

use crate::setup;

#[tokio::test]
async fn a_full_stream_refuses_further_events_and_loses_none() {
    let setup = setup()
        .replicas(1, 0)
        .ingest_env("EVENT_STREAM_MAX_BYTES", "1048576")
        .ingest_env("PUBLISH_TIMEOUT", "20s");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let mut sent = Vec::new();
    let refused = loop {
        let event = Event::new("a", format!("\"{}{}\"", sent.len(), "x".repeat(100_000)));
        let answer = producer.try_send(&event).await.unwrap();
        if answer.status() != StatusCode::ACCEPTED {
            break transcript(answer).await;
        }
        sent.push((accepted(answer).await, event.data.into_bytes()));
        assert!(sent.len() <= 10, "a stream of 1 MiB takes more than 1 MB");
    };
    // What is sent again takes its place twice.
    let again = world.metric(0, "penstock_publish_resends_total").await;
    assert!(
        sent.len() as u64 + again >= 9,
        "a stream of 1 MiB takes only {} events of 100 KB, and {again} once more",
        sent.len()
    );
    insta::assert_snapshot!(refused, @r#"
    503 Service Unavailable
    content-type: application/problem+json
    retry-after: 5

    {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the event stream is full; deliveries are behind"}
    "#);

    world.stack_mut().add_worker().await.unwrap();
    world.settle().await;
    let event = Event::new("a", "1");
    sent.push((producer.send(&event).await, event.data.into_bytes()));
    let verdict = world.history(sent, &receiver).await.judge();
    assert!(verdict.is_flawless() && verdict.unanswered == 0, "{verdict:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_frame_that_no_worker_can_read_is_set_aside_and_holds_up_nothing() {
    let mut world = setup().start().await;
    world.tolerate("set aside in quarantine");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world
        .publish_frame(b"\xc1 is no MessagePack".as_slice().into())
        .await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;

    world.settle().await;
    let query = sqlx::query_as("delete from quarantine returning stream, frame_version, bytes");
    let set_aside: Vec<(String, String, Vec<u8>)> = query.fetch_all(world.database()).await.unwrap();
    let expected = (
        stream::name(0),
        frame::VERSION.to_owned(),
        b"\xc1 is no MessagePack".to_vec(),
    );
    assert_eq!(set_aside, [expected]);
    world.finish().await;
}
