//! Deleting an organisation removes all that it has, whatever happens meanwhile.

use std::time::{Duration, Instant};

use e2e::{Answer, Event, Organization, World, until};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::json;

use crate::calls::{self, request, status, until_refused};
use crate::faults::held_up::{lock, until_waits};
use crate::setup;
use crate::tenants::deletion::{RECORDING, rows_with, set_aside};
use crate::tenants::send_body;

pub(crate) fn admin(
    world: &World,
    organization: &Organization,
    method: Method,
    path: &str,
) -> RequestBuilder {
    let path = format!("/admin/v1/organizations/{}{path}", organization.id);
    request(world, 0, method, &path, world.stack().admin_token())
}

pub(crate) async fn until_gone(world: &World, organization: &Organization) {
    until("the organisation to be gone", async || {
        match status(admin(world, organization, Method::GET, "")).await {
            seen if seen == 404 => Ok(()),
            seen => Err(seen.to_string()),
        }
    })
    .await;
}

/// An organisation with a bit of everything: tenants, endpoints of each kind, deliveries that are delivered, failed and
/// wait in order, a recovery, an event in quarantine.
async fn fill(world: &mut World) -> Organization {
    let organization = world
        .organization_with(&json!({"name": "org-canary", "tier": "enterprise"}))
        .await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let fails = String::from_utf8_lossy(&webhook.body).contains("fail");
        Answer::status(if fails { 500 } else { 200 }).with_body("answer-canary")
    });
    // A second attempt would come in an hour.
    let owned = json!({
        "tenant": "uid-canary", "create_tenant": true, "ordered": true, "description": "url-canary",
        "timeout_ms": 30_000,
    });
    world.endpoint_with(&organization, &receiver, owned).await;
    let patient = json!({"timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&organization, &receiver, patient).await;
    let pull = request(world, 0, Method::POST, "/v1/endpoints", &organization.key);
    calls::json(pull.json(&json!({"kind": "pull"}))).await;
    let producer = world.producer(&organization);
    for (number, outcome) in ["taken", "fail", "fail"].into_iter().enumerate() {
        for tenant in [None, Some("uid-canary")] {
            let body = json!({
                "type": "a", "data": ["payload-canary", outcome], "tenant": tenant,
                "ordering_key": "ordering-canary", "idempotency_key": format!("idempotency-canary-{number}"),
            });
            send_body(&producer, &body).await;
        }
    }
    world.until_deliveries_are(2, "delivered").await;
    let path = format!("/v1/endpoints/{}/recover", endpoint.id);
    let recover = request(world, 0, Method::POST, &path, &organization.key);
    let times = json!({"since": "2020-01-01T00:00:00Z", "statuses": ["dead"]});
    calls::json(recover.json(&times)).await;
    let portal = request(world, 0, Method::PUT, "/v1/portal", &organization.key);
    calls::json(portal.json(&json!({"name": "portal-canary"}))).await;
    set_aside(world, &organization, None).await;
    // As a worker does that has told of a client certificate.
    let told = format!(
        "insert into certificate_notices (endpoint_id, org_id, expires_at)
         select id, org_id, now() from endpoints where org_id = '{}'",
        organization.id
    );
    world.execute(told).await;
    organization
}

#[tokio::test]
async fn of_a_deleted_organization_no_row_is_left() {
    let mut world = setup().worker_env("RETRY_INITIAL", "1h").start().await;
    let organization = fill(&mut world).await;
    let other = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&other, &receiver).await;
    let kept = world.producer(&other).send(&Event::new("a", r#""kept""#)).await;
    world.until_delivery_is(kept, "delivered").await;
    let words = ["canary".to_owned(), organization.id.to_string()];
    let words = words.each_ref().map(String::as_str);
    assert!(rows_with(&world, &words).await.len() > 20);

    let session = "/v1/tenants/uid-canary/portal-sessions";
    let session = request(&world, 0, Method::POST, session, &organization.key);
    let session = calls::json(session.json(&json!({}))).await;
    let deleted = admin(&world, &organization, Method::DELETE, "");
    assert_eq!(status(deleted).await, 202);
    until_refused(&world, 0, &organization.key).await;
    until("the portal's session to be over", async || {
        let token = calls::text(&session, "token");
        match status(request(&world, 0, Method::GET, "/v1/events", token)).await {
            seen if seen == 401 => Ok(()),
            seen => Err(seen.to_string()),
        }
    })
    .await;
    until_gone(&world, &organization).await;
    let left = rows_with(&world, &words[..1]).await;
    assert!(left.is_empty(), "{left:#?}");
    // The log of who did what keeps ids.
    let left = rows_with(&world, &words[1..]).await;
    assert!(left.iter().all(|row| row.starts_with("audit_log:")), "{left:#?}");
    assert_eq!(world.stored_data(kept).await, [b"\"kept\""]);
    assert_eq!(
        status(admin(&world, &organization, Method::DELETE, "")).await,
        404
    );
    world.finish().await;
}

#[tokio::test]
async fn an_organization_that_is_being_deleted_cannot_be_changed_and_workers_that_die_lose_no_step() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    for number in 0..20 {
        producer.send(&Event::new("a", number.to_string())).await;
    }
    world.until_deliveries_are(20, "delivered").await;
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");

    let call = |method| admin(&world, &organization, method, "");
    assert_eq!(status(call(Method::DELETE)).await, 202);
    assert_eq!(status(call(Method::DELETE)).await, 202, "again changes nothing");
    assert_eq!(status(call(Method::PATCH).json(&json!({"name": "x"}))).await, 409);
    let make_key = admin(&world, &organization, Method::POST, "/keys");
    assert_eq!(status(make_key.json(&json!({"name": "x"}))).await, 409);
    let make_endpoint = |fields| admin(&world, &organization, Method::POST, "/endpoints").json(&fields);
    assert_eq!(status(make_endpoint(json!({"kind": "pull"}))).await, 409);
    let of_tenant = json!({"kind": "pull", "tenant": "none"});
    assert_eq!(status(make_endpoint(of_tenant)).await, 409);
    let shown = calls::json(call(Method::GET)).await;
    assert_eq!(shown["events_left"], 20);
    assert!(shown["deleting_since"].is_string(), "{shown}");
    until_refused(&world, 0, &organization.key).await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_gone(&world, &organization).await;
    world.finish().await;
}

#[tokio::test]
async fn an_answer_that_is_recorded_while_an_organization_is_deleted_is_removed_too() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let event = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "delivered").await;
    let recording = lock(&world, RECORDING).await;
    let delete = admin(&world, &organization, Method::DELETE, "");
    assert_eq!(status(delete).await, 202);
    until_waits(&world, "delivery-worker").await;
    recording.commit().await.expect("Postgres runs");
    until_gone(&world, &organization).await;
    assert_eq!(world.count("select count(*) from attempts").await, 0);
    world.finish().await;
}

#[tokio::test]
async fn the_deletion_of_an_organization_with_many_keys_is_answered_soon_although_nats_is_away() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let keys = format!(
        "insert into api_keys (id, org_id, name, hash, scopes)
         select substr(md5(n::text), 1, 16), '{}', 'k', 'x', '{{ingest}}' from generate_series(1, 50) n",
        organization.id
    );
    world.execute(keys).await;
    world.stack_mut().nats_mut().kill().await.expect("it runs");
    let begun = Instant::now();
    let deleted = admin(&world, &organization, Method::DELETE, "");
    assert_eq!(status(deleted).await, 202);
    // Telling of each key by itself would take a minute.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    let nats = world.stack_mut().nats_mut();
    nats.start().await.expect("it starts again");
    until_gone(&world, &organization).await;
    world.finish().await;
}

/// From now on, notes how many rows each statement touches that makes one of these changes in one of these tables.
pub(crate) async fn note_steps(world: &World, changes: &[(&str, &str)]) {
    let function = "
        create table steps (place text, rows bigint);
        create function note_step() returns trigger language plpgsql as
        $$ begin insert into steps select tg_table_name, count(*) from touched; return null; end $$;";
    let triggers = changes.iter().map(|(table, change)| {
        format!(
            "create trigger note_step after {change} on {table} referencing old table as touched
             for each statement execute function note_step();"
        )
    });
    let triggers = triggers.collect::<Vec<_>>().concat();
    world.execute(function.to_owned() + &triggers).await;
}

/// The tables of which steps were noted, by their names: whether these touched all of 1 200 rows, and each no more than 500.
pub(crate) async fn steps(world: &World) -> Vec<(String, bool, bool)> {
    let steps = sqlx::query_as(
        "select place, sum(rows) >= 1200, max(rows) <= 500 from steps group by place order by place",
    );
    steps.fetch_all(world.database()).await.expect("Postgres runs")
}

#[tokio::test]
async fn the_rows_of_a_large_organization_are_removed_in_short_steps() {
    let world = setup().start().await;
    let organization = world.organization().await;
    // Each endpoint and each key has an entry in the audit log, and each key is replaced by the next one.
    let fill = format!(
        "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms)
         select gen_random_uuid(), '{0}', 'pull', '', 1, 1000 from generate_series(1, 1200);
         insert into api_keys (id, org_id, name, hash, scopes, created_at, replaced_by)
         select lpad(n::text, 16, 'a'), '{0}', 'k', 'x', '{{ingest}}', now() + n * interval '1 millisecond',
                case when n < 1200 then lpad((n + 1)::text, 16, 'a') end
         from generate_series(1, 1200) n;
         insert into usage (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
         select '{0}', current_date, 'of-' || n, 0, 1, 1, 1, 1, 0 from generate_series(1, 1200) n",
        organization.id
    );
    world.execute(fill).await;
    let changes = [
        ("api_keys", "delete"),
        ("audit_log", "update"),
        ("endpoints", "delete"),
        ("usage", "delete"),
    ];
    note_steps(&world, &changes).await;
    let deleted = admin(&world, &organization, Method::DELETE, "");
    assert_eq!(status(deleted).await, 202);
    until_gone(&world, &organization).await;
    let expected = changes.map(|(place, _)| (place.to_owned(), true, true));
    assert_eq!(steps(&world).await, expected);
    world.finish().await;
}
