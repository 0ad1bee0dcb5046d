//! Events that Penstock makes itself: one that tries an endpoint out, and types that nobody else sends.

use e2e::Event;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::calls::{answer, call, json, request, status};
use crate::{setup, world};

#[tokio::test]
async fn a_test_event_goes_to_its_endpoint_alone() {
    let mut world = setup().start().await;
    let owner = world.organization().await;
    let (picky, eager) = (world.receiver().await, world.receiver().await);
    let endpoint = world
        .endpoint_with(&owner, &picky, json!({"event_types": ["never"]}))
        .await;
    world.endpoint(&owner, &eager).await;
    let path = format!("/{}/test", endpoint.id);
    let test = || call(&world, &owner, Method::POST, &path);
    let plain = e2e::accepted(test().send().await.unwrap()).await;
    let own = test()
        .json(&json!({"type": "x", "data": [1]}))
        .send()
        .await
        .unwrap();
    let own = e2e::accepted(own).await;
    for (id, kind, data) in [
        (
            plain,
            "endpoint.test",
            format!(r#"{{"endpoint_id":"{}"}}"#, endpoint.id),
        ),
        (own, "x", "[1]".to_owned()),
    ] {
        world.until_delivery_is(id, "delivered").await;
        let webhooks = picky.webhooks_of(id);
        let body = webhooks[0].parse();
        assert_eq!((body.r#type.as_str(), body.data.get()), (kind, data.as_str()));
    }
    assert_eq!(eager.count(), 0);

    insta::assert_snapshot!(answer(test().json(&json!({"type": "a b"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type","errors":[{"field":"type","detail":"must not contain white space or control characters"}]}
    "#);
    let disable = call(&world, &owner, Method::PATCH, &format!("/{}", endpoint.id));
    json(disable.json(&json!({"status": "disabled"}))).await;
    insta::assert_snapshot!(answer(test()).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is disabled"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn no_test_event_is_taken_for_an_endpoint_of_a_disabled_tenant() {
    let mut world = setup().start().await;
    let owner = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"tenant": "acme", "create_tenant": true});
    let endpoint = world.endpoint_with(&owner, &receiver, fields).await;
    let switch = async |status: &str| {
        let change = request(&world, 0, Method::PATCH, "/v1/tenants/acme", &owner.key);
        json(change.json(&json!({"status": status}))).await;
    };
    let of_acme = Event {
        tenant: Some("acme".to_owned()),
        ..Event::new("a", "1")
    };
    switch("disabled").await;
    let event = world.producer(&owner).send(&of_acme).await;
    world.settle().await;
    let test = || call(&world, &owner, Method::POST, &format!("/{}/test", endpoint.id));
    assert_eq!(status(test()).await, StatusCode::CONFLICT);
    let path = format!("/v1/events/{event}/replay");
    let replay = request(&world, 0, Method::POST, &path, &owner.key);
    let replay = replay.json(&json!({"endpoint_id": endpoint.id}));
    assert_eq!(status(replay).await, StatusCode::CONFLICT);
    switch("enabled").await;
    let sent = e2e::accepted(test().send().await.unwrap()).await;
    world.until_delivery_is(sent, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn penstocks_own_event_types_cannot_be_sent() {
    let world = world().await;
    let producer = world.producer(&world.organization().await);
    let event = Event::new("endpoint.disabled", "1");
    insta::assert_snapshot!(answer(producer.post_event(event.body())).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type","errors":[{"field":"type","detail":"is reserved for Penstock's own events"}]}
    "#);
    let cloudevent = producer
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .body(r#"{"specversion":"1.0","id":"1","source":"/s","type":"delivery.dead","partitionkey":"a b"}"#);
    insta::assert_snapshot!(answer(cloudevent).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: partitionkey, type","errors":[{"field":"partitionkey","detail":"must not contain white space or control characters"},{"field":"type","detail":"is reserved for Penstock's own events"}]}
    "#);
    world.finish().await;
}
