//! A delivery that is made again keeps to the order of its key.

use std::time::Instant;

use e2e::{Answer, World};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::domain::id::EventId;

use super::{ordered_endpoint, quick, read, send};
use crate::calls::{json, request, status};

/// What the only delivery of an event waits for, in words.
async fn waits_for(world: &World, id: EventId) -> String {
    let path = format!("/admin/v1/events/{id}/explain");
    let told = json(request(world, 0, Method::GET, &path, world.stack().admin_token())).await;
    let story = told["endpoints"][0]["story"].as_array().expect("it is told");
    let last = story.last().and_then(Value::as_str).expect("a sentence");
    last.to_owned()
}

#[tokio::test]
async fn a_delivery_that_is_made_again_waits_for_a_later_one_of_its_key_that_is_in_flight() {
    let mut world = quick().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"ordered": true, "timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&organization, &receiver, fields).await.id;
    receiver.answer(|webhook| match read(webhook).1 {
        1 => Answer::status(204).held(),
        _ => Answer::status(204),
    });
    send(&world, &organization, "a", 0).await;
    world.until_deliveries_are(1, "delivered").await;
    send(&world, &organization, "a", 1).await;
    let first = receiver.wait_for(2).await[0].id;

    let retry = format!("/v1/events/{first}/deliveries/{endpoint}/retry");
    let retry = request(&world, 0, Method::POST, &retry, &organization.key);
    assert_eq!(status(retry).await, StatusCode::ACCEPTED);
    let waiting = "select count(*) from deliveries
                   where status = 'pending' and revived_at < now() - interval '2 seconds'";
    world
        .until_count_is("the retry to wait for two seconds", waiting, 1)
        .await;
    // Whoever claims this one has looked at the other too, which is due longer.
    send(&world, &organization, "b", 0).await;
    world.until_deliveries_are(1, "delivered").await;
    let arrived: Vec<_> = receiver.webhooks().iter().map(read).collect();
    let [a, b] = ["a", "b"].map(str::to_owned);
    let before = [(a.clone(), 0), (a.clone(), 1), (b, 0)];
    assert_eq!(arrived, before);
    let last = waits_for(&world, first).await;
    assert!(
        last.starts_with("It was made again while a later event of its ordering key is being sent"),
        "{last}"
    );

    let released = Instant::now();
    receiver.release();
    world.settle().await;
    let webhooks = receiver.webhooks();
    assert_eq!(webhooks.len(), before.len() + 1);
    let again = webhooks.last().expect("some have arrived");
    assert_eq!((read(again), again.number), ((a, 0), 2));
    assert!(again.arrived >= released);
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_that_was_just_made_again_is_said_to_rest() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (receiver, _) = ordered_endpoint(&mut world, &organization, "skip").await;
    send(&world, &organization, "a", 0).await;
    world.until_deliveries_are(1, "delivered").await;
    // The clock that made it again was fast, so that the rest lasts.
    world
        .execute(
            "update deliveries set status = 'pending', next_attempt_at = now(), finished_at = null,
                                   attempts_before = attempts, revived_at = now() + interval '1 hour'",
        )
        .await;
    let last = waits_for(&world, receiver.webhooks()[0].id).await;
    assert!(last.starts_with("It was made again, and rests until"), "{last}");
    assert_eq!(receiver.count(), 1);
    world
        .execute("update deliveries set revived_at = now() - interval '1 hour'")
        .await;
    receiver.wait_for(2).await;
    world.finish().await;
}
