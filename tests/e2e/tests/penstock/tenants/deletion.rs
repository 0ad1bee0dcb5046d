//! Deleting a tenant removes what was its own, whatever happens meanwhile.

use e2e::{Answer, Organization, World, new_event, until};
use reqwest::Method;
use serde_json::json;
use shared::domain::event;
use sqlx::Row as _;

use super::{bound, send, tenant};
use crate::calls::{request, status, until_refused};
use crate::faults::held_up::{lock, until_waits};
use crate::setup;

/// Words that stand in something of the tenant, and in nothing else.
const PERSONAL: [&str; 9] = [
    "uid-canary",
    "name-canary",
    "metadata-canary",
    "payload-canary",
    "ordering-canary",
    "idempotency-canary",
    "answer-canary",
    "url-canary",
    "key-canary",
];

pub(crate) async fn until_gone(world: &World, organization: &Organization, path: &str) {
    until("the tenant to be gone", async || {
        let seen = status(request(world, 0, Method::GET, path, &organization.key)).await;
        if seen == 404 {
            Ok(())
        } else {
            Err(seen.to_string())
        }
    })
    .await;
}

/// What a worker writes with the result of a further attempt: the answer to the one before moves.
pub(crate) const RECORDING: &str = "
    with recorded as (update deliveries set attempts = attempts + 1 returning *)
    insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms, outcome, response_body)
    select org_id, event_id, endpoint_id, accepted_at, 1, now(), 1, 'timeout', 'answer-canary' from recorded";

/// The rows of all tables that hold one of these words.
pub(crate) async fn rows_with(world: &World, words: &[&str]) -> Vec<String> {
    let tables = "select format('%I', relname) as name from pg_class
                  where relnamespace = 'public'::regnamespace and relkind in ('r', 'p') and not relispartition";
    let tables = sqlx::query(tables)
        .fetch_all(world.database())
        .await
        .expect("Postgres runs");
    let mut found = Vec::new();
    for table in tables {
        let table: String = table.get("name");
        // As text, and with what stands in bytes.
        let rows = format!(
            "select t::text as row from {table} t where exists (
                 select from unnest($1::text[]) as word
                 where t::text like '%' || word || '%' or t::text like '%' || encode(word::bytea, 'hex') || '%'
             )"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(rows)).bind(words);
        let rows = rows.fetch_all(world.database()).await.expect("Postgres runs");
        found.extend(
            rows.into_iter()
                .map(|row| format!("{table}: {}", row.get::<String, _>("row"))),
        );
    }
    found
}

/// Has an event put into quarantine, of a tenant or of none.
pub(crate) async fn set_aside(world: &mut World, organization: &Organization, tenant: Option<&str>) {
    world.tolerate("set aside in quarantine");
    let unstorable = event::Event {
        tenant,
        // Nothing is sent before it is stored.
        idempotency_key: Some("idempotency-canary"),
        // Postgres has no text with this character, and ingest-api lets none through.
        ..new_event(organization.id, "a\0", r#""payload-canary""#)
    };
    world.publish_events(&[unstorable]).await;
    let query = "select count(*) from quarantine";
    world.until_count_is("an event in quarantine", query, 1).await;
}

#[tokio::test]
async fn of_a_deleted_tenant_nothing_is_left_but_ids_and_counts() {
    let mut world = setup().worker_env("RETRY_INITIAL", "1h").start().await;
    let organization = world.organization().await;
    let fields = json!({"name": "name-canary", "metadata": {"a": "metadata-canary"}});
    tenant(&world, &organization, "uid-canary", fields).await;
    let body = json!({"name": "key-canary", "scopes": ["ingest", "manage"], "tenant": "uid-canary"});
    let key = crate::calls::make(&world, &organization.key, &body).await;
    let session = "/v1/tenants/uid-canary/portal-sessions";
    let session = request(&world, 0, Method::POST, session, &organization.key);
    let session = crate::calls::json(session.json(&json!({}))).await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let body = String::from_utf8_lossy(&webhook.body);
        let answer = Answer::status(if body.contains("fail") { 500 } else { 200 });
        if body.contains("payload-canary") {
            answer.with_body("answer-canary")
        } else {
            answer
        }
    });
    // A second attempt would come in an hour.
    let all = json!({"all_tenants": true, "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, all).await;
    let fields = json!({
        "tenant": "uid-canary", "ordered": true, "description": "url-canary", "filter": {"/a": "payload-canary"},
        "timeout_ms": 30_000,
    });
    world.endpoint_with(&organization, &receiver, fields).await;
    let producer = world.producer(&organization);
    for (number, outcome) in ["taken", "fail", "fail"].into_iter().enumerate() {
        let body = json!({
            "type": "a", "data": {"a": "payload-canary", "b": outcome}, "tenant": "uid-canary",
            "ordering_key": "ordering-canary", "idempotency_key": format!("idempotency-canary-{number}"),
        });
        super::send_body(&producer, &body).await;
    }
    let kept = send(&producer, None, r#""kept""#).await;
    set_aside(&mut world, &organization, Some("uid-canary")).await;
    // Each event at two endpoints, and the last one behind the other at the ordered one.
    world.until_deliveries_are(3, "delivered").await;
    receiver.wait_for(6).await;
    assert!(rows_with(&world, &PERSONAL).await.len() > 5);

    let path = "/v1/tenants/uid-canary";
    let delete = request(&world, 0, Method::DELETE, path, &organization.key);
    assert_eq!(status(delete).await, 202);
    let key = key["key"].as_str().expect("a key is shown once");
    until_refused(&world, 0, key).await;
    until_gone(&world, &organization, path).await;
    let left = rows_with(&world, &PERSONAL).await;
    assert!(left.is_empty(), "{left:#?}");
    let outcomes: Vec<String> =
        sqlx::query_scalar("select last_outcome from deliveries where status = 'dead'")
            .fetch_all(world.database())
            .await
            .expect("Postgres runs");
    assert_eq!(outcomes, ["tenant_deleted"; 4]);
    assert_eq!(world.stored_data(kept).await, [b"\"kept\""]);
    let put = request(&world, 0, Method::PUT, path, &organization.key);
    assert_eq!(status(put).await, 201, "it can be made again");
    // A session of the tenant of before is none of the new one.
    let token = crate::calls::text(&session, "token");
    assert_eq!(
        status(request(&world, 0, Method::GET, "/v1/events", token)).await,
        401
    );
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_that_is_being_deleted_cannot_be_made_again_and_workers_that_die_lose_no_step() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "gone", json!({})).await;
    let key = bound(&world, &organization, "gone").await;
    let receiver = world.receiver().await;
    let fields = json!({"tenant": "gone"});
    world.endpoint_with(&organization, &receiver, fields).await;
    let producer = world.producer(&organization);
    for number in 0..20 {
        send(&producer, Some("gone"), &number.to_string()).await;
    }
    world.until_deliveries_are(20, "delivered").await;
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");
    let path = "/v1/tenants/gone";
    let call = |method| request(&world, 0, method, path, &organization.key);
    assert_eq!(status(call(Method::DELETE)).await, 202);
    // What still comes for it is accepted, and goes the same way.
    send(&producer, Some("gone"), "21").await;
    assert_eq!(status(call(Method::DELETE)).await, 202, "again changes nothing");
    assert_eq!(status(call(Method::PUT)).await, 409);
    assert_eq!(status(call(Method::PATCH).json(&json!({}))).await, 409);
    let shown = crate::calls::json(call(Method::GET)).await;
    assert_eq!(
        (&shown["status"], &shown["events_left"]),
        (&json!("deleting"), &json!(20))
    );
    for body in [json!({"kind": "pull", "tenant": "gone", "create_tenant": true})] {
        let make = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
        assert_eq!(status(make.json(&body)).await, 409);
    }
    until_refused(&world, 0, &key.key).await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_gone(&world, &organization, path).await;
    let with_payload = "select count(*) from events where data <> ''";
    assert_eq!(world.count(with_payload).await, 0);
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_is_not_gone_while_an_event_of_it_is_locked() {
    let world = setup().start().await;
    let organization = world.organization().await;
    for uid in ["held", "other"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let event = send(&world.producer(&organization), Some("held"), "1").await;
    world.until_event_is_stored(event).await;
    let mut holding = world.database().begin().await.expect("Postgres runs");
    let held = sqlx::query("select from events where id = $1 for update").bind(event);
    held.execute(&mut *holding).await.expect("Postgres runs");
    for uid in ["held", "other"] {
        let path = format!("/v1/tenants/{uid}");
        let delete = request(&world, 0, Method::DELETE, &path, &organization.key);
        assert_eq!(status(delete).await, 202);
    }
    // It was deleted after the other one.
    until_gone(&world, &organization, "/v1/tenants/other").await;
    let shown = request(&world, 0, Method::GET, "/v1/tenants/held", &organization.key);
    assert_eq!(crate::calls::json(shown).await["events_left"], 1);
    holding.rollback().await.expect("Postgres runs");
    until_gone(&world, &organization, "/v1/tenants/held").await;
    assert_eq!(world.stored_data(event).await, [b""]);
    world.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_recorded_while_a_tenant_is_deleted_is_removed_too() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "gone", json!({})).await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(200).with_body("answer-canary"));
    let fields = json!({"tenant": "gone"});
    world.endpoint_with(&organization, &receiver, fields).await;
    let event = send(&world.producer(&organization), Some("gone"), "1").await;
    world.until_delivery_is(event, "delivered").await;
    let recording = lock(&world, RECORDING).await;
    let path = "/v1/tenants/gone";
    let delete = request(&world, 0, Method::DELETE, path, &organization.key);
    assert_eq!(status(delete).await, 202);
    until_waits(&world, "delivery-worker").await;
    recording.commit().await.expect("Postgres runs");
    until_gone(&world, &organization, path).await;
    let left = rows_with(&world, &["answer-canary"]).await;
    assert!(left.is_empty(), "{left:#?}");
    world.finish().await;
}
