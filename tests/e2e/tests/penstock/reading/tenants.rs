//! Organisations, and receivers, do not get in each other's way.

use e2e::{Answer, Event, until};
use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::setup;

#[tokio::test]
async fn an_organisation_sees_and_gets_only_what_is_its_own() {
    let mut world = setup().start().await;
    let receiver = world.receiver().await;
    let (one, two) = (world.organization().await, world.organization().await);
    let endpoints = [
        world.endpoint(&one, &receiver).await,
        world.endpoint(&two, &receiver).await,
    ];
    let event = Event::new("a", "1").with_idempotency_key("the-same");
    let mut ids = Vec::new();
    for (organization, endpoint) in [&one, &two].into_iter().zip(endpoints) {
        ids.push(world.producer(organization).send(&event).await);
        let list = world
            .http()
            .get(world.url("/v1/endpoints"))
            .bearer_auth(&organization.key);
        let list: Value = list.send().await.unwrap().json().await.unwrap();
        let listed: Vec<_> = list["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| &each["id"])
            .collect();
        assert_eq!(listed, [&json!(endpoint.id)]);
    }
    assert_ne!(
        ids[0], ids[1],
        "the same key of two organisations names two events"
    );
    world.settle().await;
    let mut seen: Vec<_> = receiver
        .webhooks()
        .iter()
        .map(|webhook| (webhook.id, webhook.endpoint))
        .collect();
    let mut expected = [(ids[0], endpoints[0].id), (ids[1], endpoints[1].id)];
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_cannot_take_a_whole_worker() {
    const EVENTS: usize = 150;
    let mut world = setup().worker_env("MAX_IN_FLIGHT", "60").start().await;
    let organization = world.organization().await;
    let (hanging, quick) = (world.receiver().await, world.receiver().await);
    hanging.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000, "max_in_flight": 1_000});
    world.endpoint_with(&organization, &hanging, fields).await;
    world.endpoint(&organization, &quick).await;

    let producer = world.producer(&organization);
    let event = Event::new("a", "1");
    join_all((0..EVENTS).map(|_| producer.send(&event))).await;
    quick.wait_for(EVENTS).await;
    assert!(hanging.requests() <= 30, "no more than it leaves free");
    hanging.release();
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_receiver_that_hangs_does_not_hold_up_the_others() {
    const EVENTS: usize = 300;
    let mut world = setup().worker_env("MAX_IN_FLIGHT", "100").start().await;
    let organization = world.organization().await;
    let (hanging, quick) = (world.receiver().await, world.receiver().await);
    hanging.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000, "max_in_flight": 50});
    let stuck = world.endpoint_with(&organization, &hanging, fields).await;
    let patient = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &quick, patient).await;

    let producer = world.producer(&organization);
    let event = Event::new("a", "1");
    join_all((0..EVENTS).map(|_| producer.send(&event))).await;
    quick.wait_for(EVENTS).await;
    // A webhook may arrive a moment before its event is stored.
    until("all deliveries of the other one to be pending", async || {
        let mut unfinished = world.deliveries().await;
        unfinished.retain(|delivery| delivery.endpoint_id == stuck.id && delivery.status == "pending");
        match unfinished.len() {
            EVENTS => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    hanging.wait_for(50).await;
    assert_eq!(hanging.count(), 50, "as many at once as the endpoint allows");

    hanging.release();
    world.settle().await;
    assert_eq!((hanging.count(), quick.count()), (EVENTS, EVENTS));
    world.finish().await;
}
