//! Endpoints that get another URL while the receiver at the former one has yet to answer.

use e2e::{Answer, Event, Organization, Receiver, World, until};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::{call, json as body};
use crate::setup;

/// An endpoint whose URL was changed after it sent an event there, and before it was answered.
struct Moved {
    world: World,
    organization: Organization,
    endpoint: e2e::Endpoint,
    former: Receiver,
    today: Receiver,
    sent: EventId,
}

/// The receiver at the former URL will give this answer.
async fn moved(answer: impl Fn() -> Answer + Send + Sync + 'static) -> Moved {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (former, today) = (world.receiver().await, world.receiver().await);
    former.answer(move |_| answer().held());
    let path = former.new_path();
    let patient = json!({"timeout_ms": 30_000});
    let (endpoint, secret) = world
        .endpoint_at(&organization, &former.url(&path), patient)
        .await;
    former.register(path.clone(), endpoint.id, &secret);
    today.register(path.clone(), endpoint.id, &secret);
    let sent = world.producer(&organization).send(&Event::new("a", "1")).await;
    former.wait_for(1).await;
    let change = call(&world, &organization, Method::PATCH, &format!("/{}", endpoint.id));
    body(change.json(&json!({"url": today.url(&path)}))).await;
    Moved {
        world,
        organization,
        endpoint,
        former,
        today,
        sent,
    }
}

#[tokio::test]
async fn a_late_410_from_a_former_url_disables_nothing() {
    let moved = moved(|| Answer::status(410)).await;
    moved.former.release();
    let delivery = moved.world.until_delivery_is(moved.sent, "delivered").await;
    assert_eq!(delivery.attempts, 2);
    assert_eq!((moved.former.count(), moved.today.count()), (1, 1));
    moved.world.finish().await;
}

#[tokio::test]
async fn a_receiver_at_a_former_url_that_asks_to_wait_holds_up_its_own_delivery_only() {
    let moved = moved(|| Answer::status(429).with_header("retry-after", "8")).await;
    let Moved { world, today, .. } = &moved;
    moved.former.release();
    until("the late answer to be recorded", async || {
        match world.attempts_of(moved.sent).await.len() {
            1 => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    let path = format!("/{}", moved.endpoint.id);
    let shown = body(call(world, &moved.organization, Method::GET, &path)).await;
    assert_eq!(shown["health"]["waiting_until"], Value::Null, "{shown}");
    let producer = world.producer(&moved.organization);
    let next = producer.send(&Event::new("a", "2")).await;
    assert_eq!(today.wait_for(1).await[0].id, next);
    world.settle().await;
    assert_eq!(today.count(), 2);
    moved.world.finish().await;
}
