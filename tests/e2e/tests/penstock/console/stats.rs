//! The figures of the overview.

use e2e::{Answer, Event, until};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{self, request};
use crate::reading::pages::store_events;
use crate::reading::plans::{explain, query_with, reading_session, rows_read};
use crate::setup;

#[tokio::test]
async fn the_figures_are_those_of_the_keys_organisation_or_tenant() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for uid in ["acme", "globex"] {
        super::portal::tenant(&world, &organization, uid).await;
    }
    let acme = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "acme"}))
        .await;
    let once = json!({"tenant": "globex", "retry": {"attempts": 1}});
    let globex = world.endpoint_with(&organization, &receiver, once).await;
    receiver.answer(move |webhook| Answer::status(if webhook.endpoint == acme.id { 204 } else { 500 }));
    for uid in ["acme", "acme", "globex"] {
        let event = Event::new("a", "1").of_tenant(uid);
        world.producer(&organization).send(&event).await;
    }
    world.settle().await;
    // A failure is counted after its attempt is recorded.
    let counted = "select count(*) from endpoint_health where consecutive_failures > 0";
    world.until_count_is("failing endpoints", counted, 1).await;
    let stats = calls::json(request(&world, 0, Method::GET, "/v1/stats", &organization.key)).await;
    assert_eq!(
        stats["accepted_last_minute"],
        json!({"total": 3, "capped": false})
    );
    let recent = &stats["recent"];
    let counts = ["events", "deliveries", "delivered", "dead"].map(|name| recent[name].as_i64());
    assert_eq!(counts, [Some(3), Some(3), Some(2), Some(1)]);
    assert!(recent["latency_ms"]["p50"].as_f64() <= recent["latency_ms"]["p99"].as_f64());
    assert_eq!(
        stats["pending"],
        json!({"total": 0, "capped": false, "oldest_due_seconds": null})
    );
    let endpoints = &stats["endpoints"];
    let counts = ["total", "failing", "disabled"].map(|name| endpoints[name].as_i64());
    assert_eq!(counts, [Some(2), Some(1), Some(0)]);
    assert_eq!(endpoints["troubled"][0]["id"], json!(globex.id));

    let bound = json!({"name": "acme", "scopes": ["manage"], "tenant": "acme"});
    let bound = calls::make(&world, &organization.key, &bound).await;
    let stats = calls::json(request(
        &world,
        0,
        Method::GET,
        "/v1/stats",
        calls::text(&bound, "key"),
    ))
    .await;
    assert_eq!(stats["accepted_last_minute"]["total"], 2);
    assert_eq!(stats["endpoints"]["total"], 1);
    assert_eq!(stats["endpoints"]["troubled"], json!([]));
    world.finish().await;
}

/// The sum of a figure over all stretches.
fn sum(history: &Value, figure: &str) -> i64 {
    let stretches = history["stretches"].as_array().expect("it is a list");
    stretches
        .iter()
        .filter_map(|stretch| stretch[figure].as_i64())
        .sum()
}

#[tokio::test]
async fn charts_have_the_last_hour_and_the_last_day_also_as_server_sent_events() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    for number in 0..3 {
        let event = Event::new("a", number.to_string());
        world.producer(&organization).send(&event).await;
    }
    world.settle().await;
    let get = |query: &str| {
        let path = format!("/v1/stats{query}");
        request(&world, 0, Method::GET, &path, &organization.key)
    };
    assert_eq!(calls::json(get("")).await["history"], Value::Null);
    for (period, seconds, count) in [("hour", 60, 60), ("day", 900, 96)] {
        let history = calls::json(get(&format!("?period={period}"))).await["history"].clone();
        assert_eq!(history["stretch_seconds"], json!(seconds));
        assert_eq!(history["stretches"].as_array().map(Vec::len), Some(count));
        let figures = ["accepted", "deliveries", "delivered", "dead"].map(|figure| sum(&history, figure));
        assert_eq!(figures, [3, 3, 3, 0], "{period}");
    }
    let answer = get("?period=hour&seconds=1").header("accept", "text/event-stream");
    let answer = answer.send().await.expect("ingest-api answers");
    assert_eq!(answer.headers()["content-type"], "text/event-stream");
    let body = answer.text().await.expect("it is text");
    let told = body
        .strip_prefix("event: stats\ndata: ")
        .and_then(|rest| rest.split_once("\n\n"))
        .unwrap_or_else(|| panic!("{body}"));
    let told: Value = serde_json::from_str(told.0).expect("data is JSON");
    assert_eq!(sum(&told["history"], "accepted"), 3);
    world.finish().await;
}

#[tokio::test]
async fn figures_of_very_many_events_read_a_bounded_number_of_rows() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    store_events(&world, &organization, 20_000).await;
    let mut session = reading_session(&world).await;
    let id = format!("'{}'", organization.id);
    let org = (1, id.as_str());
    let (from, last) = ("now() - interval '59 minutes'", "now()");
    let counted = [org, (3, from), (4, last), (5, "60"), (6, "500")];
    let sampled = [org, (3, from), (4, last), (5, "60"), (6, "20"), (7, "10")];
    let newest = [org, (3, "now() - interval '10 seconds'"), (4, "500")];
    let passed = [org, (3, from), (4, last), (5, from), (6, "500")];
    let recent = [org, (3, "500"), (4, "10")];
    for (text, parameters, most) in [
        ("max(e.accepted_at) as last", &counted[..], 1_600.0),
        ("percentile_cont(0.95)", &sampled[..], 100.0),
        (
            "(select id, accepted_at, stored_at, type, tenant from events",
            &newest[..],
            600.0,
        ),
        ("date_trunc('second', accepted_at)", &passed[..], 600.0),
        ("percentile_cont(array[0.5", &recent[..], 600.0),
    ] {
        let query = query_with(text);
        let explained = explain(&mut session, "analyze, format json", &query, parameters).await;
        let read = rows_read(&explained[0]["Plan"], "events");
        // Postgres tells rows by the loop, and before its version 18 without a fraction: of few it tells none.
        assert!(read <= most, "{text} reads {read} rows: {explained:#}");
    }
    drop(session);
    world.finish().await;
}

/// How many deliveries are pending in this state.
fn total_of(figures: &Value, state: &str) -> Option<u64> {
    let pending = figures["pending"].as_array()?;
    pending.iter().find(|each| each["state"] == state)?["total"].as_u64()
}

#[tokio::test]
async fn operators_see_replicas_streams_and_what_waits() {
    let mut world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let once = json!({"retry": {"attempts": 1}});
    world.endpoint_with(&organization, &receiver, once).await;
    receiver.answer(|_| Answer::status(500));
    world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_deliveries_are(1, "dead").await;
    let token = world.stack().admin_token().to_owned();
    let stats = until("all to be measured", async || {
        let stats = calls::json(request(&world, 0, Method::GET, "/admin/v1/stats", &token)).await;
        let is_whole = stats["replicas"] == 2
            && stats["streams"]
                .as_array()
                .is_some_and(|streams| !streams.is_empty())
            && total_of(&stats, "due") == Some(0)
            && stats["workers"].as_array().map(Vec::len) == Some(1)
            // Failures are counted after the delivery is dead.
            && stats["failing_endpoints"]["total"] == 1;
        if is_whole {
            Ok(stats)
        } else {
            Err(stats.to_string())
        }
    })
    .await;
    assert_eq!(stats["cut_off"], json!(false));
    assert_eq!(stats["failing_endpoints"]["capped"], json!(false));
    let stream = &stats["streams"][0];
    assert_eq!(stream["name"], "EVENTS-0");
    assert!(
        stream["bytes"].as_u64() < stream["max_bytes"].as_u64(),
        "{stream}"
    );
    let refused = request(&world, 0, Method::GET, "/admin/v1/stats", &organization.key);
    assert_eq!(calls::status(refused).await, 401);
    world.finish().await;
}

#[tokio::test]
async fn operators_are_told_that_more_wait_than_are_counted_only_when_more_do() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let endpoint = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
    calls::json(endpoint.json(&json!({"kind": "pull"}))).await;
    for (added, capped) in [(10_000, false), (1, true)] {
        let deliveries = format!(
            "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, next_attempt_at, pull)
             select org_id, gen_random_uuid(), id, now(), now(), true from endpoints
             cross join generate_series(1, {added})"
        );
        world.execute(deliveries).await;
        until("all to be counted", async || {
            let token = world.stack().admin_token();
            let stats = calls::json(request(&world, 0, Method::GET, "/admin/v1/stats", token)).await;
            let mut pending = stats["pending"].as_array().into_iter().flatten();
            let told = pending
                .any(|each| each["state"] == "pull" && each["total"] == 10_000 && each["capped"] == capped);
            if told { Ok(()) } else { Err(stats.to_string()) }
        })
        .await;
    }
    world.finish().await;
}
