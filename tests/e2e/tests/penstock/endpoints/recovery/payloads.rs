//! Payloads that are removed, and what becomes of their deliveries.

use e2e::{Answer, Event, until};
use reqwest::Method;
use serde_json::{Value, json};

use super::on_event;
use crate::calls::{answer, json, request, status};
use crate::faults::held_up::{lock, until_waits};
use crate::setup;
use crate::tenants::deletion::{RECORDING, rows_with};

#[tokio::test]
async fn a_removed_payload_is_nowhere_and_is_not_delivered_any_more() {
    const CANARY: &str = "canary-51b2";
    let mut world = setup().start().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500).with_header("retry-after", "3600"));
    let endpoint = world.endpoint(&owner, &receiver).await.id;
    let event = Event::new("a", json!(CANARY).to_string()).with_idempotency_key("k");
    let id = world.producer(&owner).send(&event).await;
    until("the first attempt", async || {
        match world.attempts_of(id).await.len() {
            1 => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    world
        .execute("update deliveries set last_response_body = 'canary-51b2'")
        .await;
    let attempts = "insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms, outcome,
                                          response_body)
                    select org_id, event_id, endpoint_id, accepted_at, 0, now(), 1, 'timeout', 'canary-51b2' from deliveries";
    world.execute(attempts).await;
    let remove = |owner| on_event(&world, owner, Method::DELETE, id, "/data");
    assert_eq!(status(remove(&stranger)).await, 404);
    for _ in 0..2 {
        assert_eq!(status(remove(&owner)).await, 204);
    }
    let rows = sqlx::query_scalar::<_, String>(
        "select encode(data, 'escape') || e::text from events e
         union all select a::text || coalesce(encode(response_body, 'escape'), '') from attempt_history a
         union all select d::text from deliveries d",
    );
    let rows = rows.fetch_all(world.database()).await.unwrap();
    assert_eq!(rows.len(), 4);
    assert!(!rows.concat().contains(CANARY), "{rows:?}");
    let shown = json(on_event(&world, &owner, Method::GET, id, "")).await;
    assert_eq!(
        (&shown["data"], &shown["idempotency_key"]),
        (&Value::Null, &json!("k"))
    );
    assert!(shown["expunged_at"].is_string(), "{shown}");
    let delivery = &shown["deliveries"][0];
    assert_eq!(
        (&delivery["status"], &delivery["last_outcome"]),
        (&json!("dead"), &json!("expunged"))
    );
    let page = json(request(&world, 0, Method::GET, "/v1/events", &owner.key)).await;
    assert_eq!(page["data"][0]["data"], Value::Null);
    let inbox = world
        .http()
        .get(world.url("/api/inbox"))
        .header("x-api-key", &owner.key);
    assert_eq!(status(inbox).await, 200);
    insta::assert_snapshot!(answer(on_event(&world, &owner, Method::POST, id, "/replay")).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the event's payload was removed"}
    "#);
    let retry = format!("/deliveries/{endpoint}/retry");
    assert_eq!(
        status(on_event(&world, &owner, Method::POST, id, &retry)).await,
        409
    );
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_result_that_comes_after_its_payload_was_removed_is_not_recorded() {
    let mut world = setup().start().await;
    let owner = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    world
        .endpoint_with(&owner, &receiver, json!({"timeout_ms": 30_000}))
        .await;
    let id = world.producer(&owner).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    world.until_delivery_is(id, "pending").await;
    assert_eq!(
        status(on_event(&world, &owner, Method::DELETE, id, "/data")).await,
        204
    );
    receiver.release();
    let lost = async || {
        let metrics = world
            .http()
            .get(world.stack().worker(0).metrics_url())
            .send()
            .await;
        metrics
            .map_err(|error| error.to_string())?
            .text()
            .await
            .map_err(|error| error.to_string())
    };
    until("the result to be refused", async || match lost().await? {
        text if text.contains("penstock_leases_lost_total 1") => Ok(()),
        text => Err(text),
    })
    .await;
    assert_eq!(world.until_delivery_is(id, "dead").await.attempts, 0);
    assert_eq!(world.attempts_of(id).await, []);
    world.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_recorded_while_the_payload_is_removed_is_removed_too() {
    let mut world = setup().start().await;
    let owner = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(200).with_body("answer-canary"));
    world.endpoint(&owner, &receiver).await;
    let id = world.producer(&owner).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    let recording = lock(&world, RECORDING).await;
    let recorded = async {
        until_waits(&world, "ingest-api").await;
        recording.commit().await.expect("Postgres runs");
    };
    let remove = status(on_event(&world, &owner, Method::DELETE, id, "/data"));
    let (removed, ()) = tokio::join!(remove, recorded);
    assert_eq!(removed, 204);
    let left = rows_with(&world, &["answer-canary"]).await;
    assert!(left.is_empty(), "{left:#?}");
    world.finish().await;
}
