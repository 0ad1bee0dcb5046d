//! The way from page to page.

use std::collections::BTreeSet;

use e2e::{Event, Organization, World};
use serde_json::{Value, json};

use crate::setup;

/// A page of a list, and where its `Link` leads.
async fn page(world: &World, organization: &Organization, path: &str) -> (Value, Option<String>) {
    let request = world.http().get(world.url(path)).bearer_auth(&organization.key);
    let response = request.send().await.expect("ingest-api answers");
    assert_eq!(response.status(), 200, "{path}");
    let link = response.headers().get("link").map(|link| {
        let link = link.to_str().expect("a link is ASCII");
        let (target, relation) = link.split_once(">; ").expect("a link has parameters");
        assert_eq!(relation, "rel=\"next\"");
        target.trim_start_matches('<').to_owned()
    });
    (response.json().await.expect("a page is JSON"), link)
}

/// All rows of a list, by its links alone; no page holds more than two.
async fn follow(world: &World, organization: &Organization, path: &str) -> Vec<Value> {
    let (mut rows, mut next) = (Vec::new(), Some(path.to_owned()));
    while let Some(path) = next {
        let (page, link) = self::page(world, organization, &path).await;
        let data = page["data"].as_array().expect("a page has rows");
        assert!(data.len() <= 2, "{path}: {} rows", data.len());
        assert_eq!(page["next_cursor"].is_string(), link.is_some(), "{path}");
        rows.extend(data.clone());
        next = link;
    }
    rows
}

#[tokio::test]
async fn the_link_to_the_next_page_keeps_the_rest_of_the_query() {
    let world = setup().start().await;
    let organization = world.organization().await;
    // Nothing listens there.
    let (endpoint, _) = world
        .endpoint_at(
            &organization,
            "http://127.0.0.1:1/",
            json!({"retry": {"attempts": 1}}),
        )
        .await;
    let producer = world.producer(&organization);
    for number in 0..10 {
        let kind = if number % 2 == 0 { "a&b c" } else { "other" };
        let body = json!({"type": kind.replace(' ', "+"), "data": number});
        let sent = producer.post_event(body.to_string()).send().await.unwrap();
        assert_eq!(sent.status(), 202);
    }
    world.until_deliveries_are(10, "dead").await;
    let id = endpoint.id;
    let query = format!("limit=2&type=a%26b%2Bc&status=dead&endpoint={id}&from=2020-01-01T00:00:00%2B01:00");
    let events = follow(&world, &organization, &format!("/v1/events?{query}")).await;
    assert_eq!(events.len(), 5);
    assert!(events.iter().all(|event| event["type"] == "a&b+c"), "{events:?}");
    let path = format!("/v1/endpoints/{id}/deliveries?status=dead&outcome=refused&limit=2");
    let (first, _) = page(
        &world,
        &organization,
        &format!("/v1/endpoints/{id}/deliveries?limit=2"),
    )
    .await;
    let outcome = first["data"][0]["last_outcome"].as_str().unwrap();
    let path = path.replace("refused", outcome);
    let deliveries = follow(&world, &organization, &path).await;
    let ids: BTreeSet<_> = deliveries.iter().map(|row| row["event_id"].as_str()).collect();
    assert_eq!((deliveries.len(), ids.len()), (10, 10));
    for number in 0..4 {
        let key = json!({"name": format!("k{number}"), "scopes": ["ingest"]});
        let made = producer.post("/v1/keys").json(&key).send().await.unwrap();
        assert_eq!(made.status(), 201);
    }
    assert_eq!(follow(&world, &organization, "/v1/keys?limit=2").await.len(), 5);
    world.finish().await;
}

/// Stores events without any delivery, a millisecond apart, the newest now.
pub(crate) async fn store_events(world: &World, organization: &Organization, count: i32) {
    let insert = sqlx::query(
        "insert into events (org_id, accepted_at, id, type, content_type, data, idempotency_key)
         select $1, now() - n * interval '1 millisecond', gen_random_uuid(),
                case when n = $2 then 'rare' else 'common' end, 'application/json', '1', 'k' || n
         from generate_series(1, $2) n",
    );
    let done = insert
        .bind(organization.id)
        .bind(count)
        .execute(world.database())
        .await;
    done.expect("events can be stored");
}

#[tokio::test]
async fn a_list_that_finds_little_looks_at_10_000_events_a_page_and_leads_on() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    store_events(&world, &organization, 10_005).await;
    let (first, link) = page(&world, &organization, "/v1/events?type=rare&limit=2").await;
    assert_eq!(first["data"], json!([]));
    let (second, end) = page(&world, &organization, &link.expect("there is more")).await;
    assert_eq!((second["data"][0]["type"].as_str(), end), (Some("rare"), None));
    let (none, link) = page(&world, &organization, "/v1/events?status=dead").await;
    assert_eq!(
        (none["data"].as_array().map(Vec::len), link.is_some()),
        (Some(0), true)
    );
    world.finish().await;
}

#[tokio::test]
async fn an_event_with_very_many_attempts_is_shown_with_the_newest_of_them() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    let path = format!("/v1/events/{id}");
    let show = async || {
        let request = world.http().get(world.url(&path)).bearer_auth(&organization.key);
        let shown: Value = request.send().await.unwrap().json().await.unwrap();
        shown["deliveries"][0].clone()
    };
    let delivery = show().await;
    assert_eq!(delivery["attempts_recorded"], json!(1));
    let insert = sqlx::query(
        "insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms, outcome)
         select org_id, event_id, endpoint_id, accepted_at, n, started_at, duration_ms, outcome
         from attempt_history, generate_series(2, 250) n where event_id = $1",
    );
    insert.bind(id).execute(world.database()).await.unwrap();
    let delivery = show().await;
    let log = delivery["attempt_log"].as_array().unwrap();
    let numbers = [&log[0]["number"], &log[99]["number"]];
    assert_eq!((log.len(), numbers), (100, [&json!(151), &json!(250)]));
    assert_eq!(delivery["attempts_recorded"], json!(250));
    world.finish().await;
}

#[tokio::test]
async fn an_event_with_very_many_deliveries_is_listed_with_some_of_them() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    store_events(&world, &organization, 1).await;
    let insert = sqlx::query(
        "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status)
         select org_id, id, gen_random_uuid(), accepted_at, 'delivered' from events, generate_series(1, 1005)",
    );
    insert.execute(world.database()).await.unwrap();
    let (listed, _) = page(&world, &organization, "/v1/events").await;
    let path = format!("/v1/events/{}", listed["data"][0]["id"].as_str().unwrap());
    let (shown, _) = page(&world, &organization, &path).await;
    let count = |event: &Value| event["deliveries"].as_array().map(Vec::len);
    assert_eq!(
        (count(&listed["data"][0]), count(&shown)),
        (Some(100), Some(1_000))
    );
    for event in [&listed["data"][0], &shown] {
        assert_eq!(event["deliveries_total"], json!(1_005));
    }
    world.finish().await;
}

#[tokio::test]
async fn what_a_recovery_matches_is_counted_up_to_10_000() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    store_events(&world, &organization, 10_005).await;
    let producer = world.producer(&organization);
    let insert = sqlx::query(
        "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, pull)
         select org_id, id, $1::uuid, accepted_at, case when type = 'rare' then 'delivered' else 'dead' end, true
         from events",
    );
    let endpoint = producer
        .post("/v1/endpoints")
        .json(&json!({"kind": "pull"}))
        .send()
        .await;
    let endpoint: Value = endpoint.unwrap().json().await.unwrap();
    let id = endpoint["id"].as_str().unwrap();
    insert.bind(id).execute(world.database()).await.unwrap();
    let begun = async |statuses: Value, seconds: i64| {
        let since = sqlx::query_scalar("select to_json(min(accepted_at))#>>'{}' from events");
        let since: String = since.fetch_one(world.database()).await.unwrap();
        let until = sqlx::query_scalar(
            "select to_json(min(accepted_at) + $1 * interval '1 second')#>>'{}' from events",
        );
        let until: String = until.bind(seconds).fetch_one(world.database()).await.unwrap();
        let body = json!({"since": since, "until": until, "statuses": statuses});
        let recover = producer.post(&format!("/v1/endpoints/{id}/recover")).json(&body);
        let recovery = recover.send().await.unwrap();
        assert_eq!(recovery.status(), 202);
        let recovery: Value = recovery.json().await.unwrap();
        let path = format!(
            "/v1/endpoints/{id}/recoveries/{}",
            recovery["id"].as_str().unwrap()
        );
        let cancelled = world
            .http()
            .delete(world.url(&path))
            .bearer_auth(&organization.key)
            .send()
            .await;
        assert_eq!(cancelled.unwrap().status(), 204);
        recovery["matched"].clone()
    };
    assert_eq!(begun(json!(["dead"]), 60).await, json!(10_000));
    assert_eq!(begun(json!(["delivered"]), 60).await, json!(10_000));
    // Events are a millisecond apart, and the oldest one is delivered.
    assert_eq!(begun(json!(["dead"]), 2).await, json!(1_999));
    assert_eq!(begun(json!(["delivered"]), 2).await, json!(1));
    assert_eq!(begun(json!(["dead", "delivered"]), 2).await, json!(2_000));
    world.finish().await;
}

#[tokio::test]
async fn a_list_of_deliveries_by_outcome_looks_at_10_000_a_page_and_leads_on() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    store_events(&world, &organization, 10_005).await;
    let pull = json!({"kind": "pull"});
    let endpoint = world
        .producer(&organization)
        .post("/v1/endpoints")
        .json(&pull)
        .send()
        .await;
    let endpoint: Value = endpoint.unwrap().json().await.unwrap();
    let id = endpoint["id"].as_str().unwrap();
    // The one that is listed last ended in another way.
    for (status, due) in [("dead", "null"), ("pending", "now() - (accepted_at - now())")] {
        sqlx::query("truncate deliveries")
            .execute(world.database())
            .await
            .unwrap();
        let insert = format!(
            "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, pull, last_outcome,
                                     next_attempt_at, ordering_key, ordinal, stream)
             select org_id, id, $1::uuid, accepted_at, '{status}', n % 3 = 0,
                    case when type = 'rare' then 'timeout' else 'status' end, {due}, case when n % 3 = 1 then 'k' end,
                    case when n % 3 = 1 then n end, case when n % 3 = 1 then 'EVENTS-0' end
             from (select *, row_number() over () as n from events) e"
        );
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert)).bind(id);
        insert.execute(world.database()).await.unwrap();
        let path = format!("/v1/endpoints/{id}/deliveries?status={status}&limit=2&outcome");
        let (first, link) = page(&world, &organization, &format!("{path}=timeout")).await;
        assert_eq!(first["data"], json!([]), "{status}");
        let (second, end) = page(&world, &organization, &link.expect("there is more")).await;
        assert_eq!(
            (second["data"][0]["event_type"].as_str(), end),
            (Some("rare"), None)
        );
        let (usual, link) = page(&world, &organization, &format!("{path}=status")).await;
        assert_eq!(
            (usual["data"].as_array().map(Vec::len), link.is_some()),
            (Some(2), true)
        );
    }
    // They would be due one after the other, and no worker takes them.
    world.execute("truncate deliveries").await;
    world.finish().await;
}
