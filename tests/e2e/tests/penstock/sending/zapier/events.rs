//! Sending events: repeats, refusals and limits.

use e2e::{transcript, transcript_with, until};
use reqwest::StatusCode;
use serde_json::json;

use super::{Client, id, read, text, world};
use crate::calls::answer;
use crate::setup;

#[tokio::test]
async fn a_repeated_dedup_id_is_answered_409_where_it_is_known_and_is_never_delivered_twice() {
    let mut world = setup()
        .replicas(2, 2)
        .ingest_env("ALLOW_SIGNUP", "true")
        .start()
        .await;
    let client = Client::new(&world).await;
    let receiver = world.receiver().await;
    client.set_webhook(&receiver).await;
    let body = json!({"type": "a", "data": {"n": 1}, "dedup_id": "order-1"});
    let first = client.send(&body).await;
    insta::assert_snapshot!(answer(client.event(body.to_string())).await, @r#"
    409 Conflict
    content-type: application/json

    {"error":"an event with this dedup_id was accepted within 24 hours","dedup_id":"order-1"}
    "#);

    let elsewhere = Client {
        url: world.stack().ingest(1).url(),
        ..client.clone()
    };
    assert_eq!(elsewhere.send(&body).await, first, "another replica cannot know");
    assert_eq!(
        elsewhere.event(body.to_string()).send().await.unwrap().status(),
        409
    );
    let stranger = Client::new(&world).await;
    assert_ne!(stranger.send(&body).await, first, "another organisation's");
    assert_ne!(
        client
            .send(&json!({"type": "a", "data": 1, "dedup_id": "order-2"}))
            .await,
        first
    );

    world.settle().await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(receiver.webhooks_of(first).len(), 1);
    assert_eq!(world.stored_data(first).await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_idempotency_key_header_means_what_it_means_on_the_other_route() {
    let mut world = world().await;
    let client = Client::new(&world).await;
    let receiver = world.receiver().await;
    client.set_webhook(&receiver).await;
    let event = |key: &str| {
        client
            .event(r#"{"type":"a","payload":1}"#)
            .header("idempotency-key", key)
    };
    let first = id(&read(event("order-1"), 202).await);
    for key in ["order-1", "\"order-1\""] {
        assert_eq!(id(&read(event(key), 202).await), first, "a repeat");
    }
    assert_ne!(id(&read(event("order-2"), 202).await), first);
    let other_route = client.post("/v1/events").header("idempotency-key", "order-1");
    let other_route = other_route.json(&json!({"type": "a", "data": 1}));
    assert_eq!(id(&read(other_route, 202).await), first);
    let with_dedup_id = |dedup_id: &str| {
        let body = json!({"type": "a", "payload": 1, "dedup_id": dedup_id});
        client.event(body.to_string())
    };
    for repeat in [
        with_dedup_id("order-1"),
        with_dedup_id("order-1").header("idempotency-key", "order-1"),
    ] {
        assert_eq!(read(repeat, 409).await["dedup_id"], "order-1");
    }

    insta::assert_snapshot!(answer(event("\"open")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"Idempotency-Key: a quote or backslash is not closed or not escaped"}
    "#);
    insta::assert_snapshot!(answer(event("order-1").header("idempotency-key", "order-1")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"Idempotency-Key: stands more than once"}
    "#);
    insta::assert_snapshot!(answer(with_dedup_id("order-3").header("idempotency-key", "order-4")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"Idempotency-Key: differs from `dedup_id` in the body"}
    "#);

    world.settle().await;
    assert_eq!(receiver.count(), 2);
    assert_eq!(receiver.webhooks_of(first).len(), 1);
    let inbox = client.inbox("").await;
    let keys = inbox["events"].as_array().unwrap().iter();
    let keys: Vec<_> = keys.map(|event| text(&event["dedup_id"])).collect();
    assert_eq!(keys, ["order-2", "order-1"]);
    world.finish().await;
}

#[tokio::test]
async fn an_organisation_past_its_rate_limit_is_told_when_to_come_back() {
    let world = setup().replicas(1, 0).start().await;
    let limited = json!({"name": "limited", "rate_limit_per_minute": 1});
    let organization = world.organization_with(&limited).await;
    let client = Client {
        http: world.http().clone(),
        url: world.stack().ingest(0).url(),
        key: organization.key,
    };
    assert_eq!(
        client.get("/api/keys").send().await.unwrap().status(),
        StatusCode::OK
    );
    let refused = client.get("/api/keys").send().await.unwrap();
    // Some of the minute may have passed.
    let left: u32 = refused.headers()["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=60).contains(&left), "{left}");
    let refused = transcript_with(refused, &["ratelimit-policy", "ratelimit"]).await;
    let refused = refused.replace(&format!("retry-after: {left}\n"), "retry-after: <left>\n");
    let refused = refused.replace(&format!(";t={left}\n"), ";t=<left>\n");
    let refused = refused.replace(&format!(" in {left} s"), " in <left> s");
    insta::assert_snapshot!(refused, @r#"
    429 Too Many Requests
    content-type: application/json
    retry-after: <left>
    ratelimit-policy: "default";q=1;w=60
    ratelimit: "default";r=0;t=<left>

    {"error":"the rate limit is used up; try again in <left> s"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_cannot_be_stored_is_refused_with_the_time_to_try_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let client = Client {
        http: world.http().clone(),
        url: world.stack().ingest(0).url(),
        key: organization.key,
    };
    assert_eq!(client.get("/api/keys").send().await.unwrap().status(), 200);
    world
        .stack_mut()
        .nats_mut()
        .kill()
        .await
        .expect("nats-server runs");
    let body = json!({"type": "a", "payload": 1, "dedup_id": "k"}).to_string();
    let refused = client.event(body.clone()).send().await.unwrap();
    insta::assert_snapshot!(transcript(refused).await, @r#"
    503 Service Unavailable
    content-type: application/json
    retry-after: 2

    {"error":"the event stream does not answer"}
    "#);
    world
        .stack_mut()
        .nats_mut()
        .start()
        .await
        .expect("nats-server starts again");
    // A refused event is no repeat.
    until("the event to be accepted", async || {
        match client.event(body.clone()).send().await.unwrap().status() {
            StatusCode::ACCEPTED => Ok(()),
            StatusCode::SERVICE_UNAVAILABLE => Err("503".to_owned()),
            other => panic!("{other}"),
        }
    })
    .await;
    world.finish().await;
}
