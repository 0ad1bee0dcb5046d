//! A tenant's own rate limit, within the organisation's.

use std::time::Instant;

use e2e::{Event, Organization, Producer, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{bound, tenant};
use crate::calls::{self, request, text};
use crate::keys::rate_limits::until_together;
use crate::setup;

/// Waits until a replica knows of a tenant's limit, which one request of a key that is bound to it shows.
async fn until_limited(world: &World, key: &Organization, index: usize, limit: u64) {
    let policy = format!("\"default\";q={limit};w=60");
    until("the limit to be known", async || {
        let tried = world
            .producer_at(key, index)
            .post("/v1/events/none/replay")
            .send()
            .await;
        let shown = tried.expect("ingest-api answers").headers()["ratelimit-policy"].clone();
        if shown == policy {
            Ok(())
        } else {
            Err(format!("{shown:?}"))
        }
    })
    .await;
}

async fn send(producer: &Producer, uid: Option<&str>) -> StatusCode {
    let event = Event::new("a", "1").of_tenant(uid);
    producer
        .try_send(&event)
        .await
        .expect("ingest-api answers")
        .status()
}

#[tokio::test]
async fn a_tenants_own_limit_holds_over_all_replicas_and_for_every_key() {
    const LIMIT: u64 = 60;
    let world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    tenant(
        &world,
        &organization,
        "one",
        json!({"rate_limit_per_minute": LIMIT}),
    )
    .await;
    tenant(&world, &organization, "two", json!({})).await;
    let key = bound(&world, &organization, "one").await;
    for index in 0..2 {
        until_limited(&world, &key, index, LIMIT).await;
    }
    let (mut admitted, start) = (0, Instant::now());
    for number in 0..2 * LIMIT {
        let who = if number % 3 == 0 { &key } else { &organization };
        let producer = world.producer_at(who, usize::from(number % 2 == 0));
        admitted += u64::from(send(&producer, Some("one")).await == 202);
    }
    // Some were used to find out that the limit is known, and one comes back every second.
    let most = LIMIT + 20 + start.elapsed().as_secs();
    assert!((LIMIT / 2..=most).contains(&admitted), "{admitted} of {most}");
    let producer = world.producer(&organization);
    assert_eq!(send(&producer, Some("two")).await, 202);
    assert_eq!(send(&producer, None).await, 202);
    world.finish().await;
}

#[tokio::test]
async fn the_headers_show_the_limit_that_is_nearer_and_a_batch_is_refused_event_by_event() {
    let world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    tenant(
        &world,
        &organization,
        "small",
        json!({"rate_limit_per_minute": 5}),
    )
    .await;
    let key = bound(&world, &organization, "small").await;
    until_limited(&world, &key, 0, 5).await;
    let producer = world.producer(&organization);
    let of = |tenant: Option<&str>| json!({"type": "a", "data": 1, "tenant": tenant});
    let answer = producer
        .post_event(of(None).to_string())
        .send()
        .await
        .expect("ingest-api answers");
    let of_organization = answer.headers()["ratelimit-policy"].clone();
    assert_ne!(of_organization, "\"default\";q=5;w=60");
    let answer = producer.post_event(of(Some("small")).to_string()).send().await;
    assert_eq!(
        answer.expect("ingest-api answers").headers()["ratelimit-policy"],
        "\"default\";q=5;w=60"
    );

    let mut batch = vec![of(Some("small")); 8];
    batch.extend([of(None), of(Some("unlimited"))]);
    let answer = producer.post("/v1/events/batch").json(&batch).send().await;
    let answer = answer.expect("ingest-api answers");
    assert_eq!(answer.status(), 207);
    let outcome: Value = answer.json().await.expect("the answer is JSON");
    let results = outcome["results"].as_array().expect("results are a list");
    let statuses: Vec<_> = results.iter().map(|result| result["status"].as_u64()).collect();
    let refused = statuses.iter().filter(|status| **status == Some(429)).count();
    assert!((3..=8).contains(&refused), "{statuses:?}");
    assert_eq!(statuses[7..], [Some(429), Some(202), Some(202)]);
    world.finish().await;
}

#[tokio::test]
async fn a_batch_that_a_tenants_limit_can_never_admit_is_not_told_to_wait() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let fields = json!({"rate_limit_per_minute": 5});
    tenant(&world, &organization, "small", fields).await;
    let key = bound(&world, &organization, "small").await;
    until_limited(&world, &key, 0, 5).await;
    let batch = vec![json!({"type": "a", "data": 1}); 6];
    let answer = world
        .producer(&key)
        .post("/v1/events/batch")
        .json(&batch)
        .send()
        .await;
    let answer = answer.expect("ingest-api answers");
    assert_eq!(answer.status(), 422);
    let problem: Value = answer.json().await.expect("the answer is JSON");
    let detail = "costs 6 requests of a rate limit of 5 a minute: send it in parts";
    assert_eq!(problem["errors"], json!([{"field": "body", "detail": detail}]));
    world.finish().await;
}

/// Sends until this many events of a tenant were refused.
async fn until_refused(producer: &Producer, uid: &str, mut refusals: usize) {
    while refusals > 0 {
        refusals -= usize::from(send(producer, Some(uid)).await == 429);
    }
}

/// The tenants that a replica names as refused, with how often they were.
async fn limited(world: &World, index: usize, key: &str) -> Vec<(String, Option<u64>)> {
    let stats = calls::json(request(world, index, Method::GET, "/v1/stats", key)).await;
    let tenants = stats["rate_limited_tenants"].as_array().expect("it is a list");
    let refused = |each: &Value| {
        let tenant = text(each, "tenant").to_owned();
        (tenant, each["refused_last_minute"].as_u64())
    };
    tenants.iter().map(refused).collect()
}

#[tokio::test]
async fn the_figures_name_the_tenants_that_their_own_limits_refuse() {
    let world = setup().start().await;
    let (organization, other) = (world.organization().await, world.organization().await);
    for (uid, limit) in [("small", 3), ("busy", 3), ("large", 60_000)] {
        let fields = json!({"rate_limit_per_minute": limit});
        tenant(&world, &organization, uid, fields).await;
    }
    let large = bound(&world, &organization, "large").await;
    // It was made last, and limits are read in one look.
    until_limited(&world, &large, 0, 60_000).await;
    let producer = world.producer(&organization);
    for (uid, refusals) in [("small", 2), ("busy", 5)] {
        until_refused(&producer, uid, refusals).await;
    }
    assert_eq!(send(&producer, Some("large")).await, 202);
    let expected = [("busy".to_owned(), Some(5)), ("small".to_owned(), Some(2))];
    assert_eq!(limited(&world, 0, &organization.key).await, expected);
    for key in [&large.key, &other.key] {
        assert!(limited(&world, 0, key).await.is_empty());
    }
    world.finish().await;
}

#[tokio::test]
async fn the_figures_of_each_replica_name_the_tenants_that_any_of_them_refuses() {
    let world = setup().replicas(2, 1).start().await;
    let (organization, other) = (world.organization().await, world.organization().await);
    for (uid, limit) in [("one", 3), ("two", 3), ("large", 60_000)] {
        let fields = json!({"rate_limit_per_minute": limit});
        tenant(&world, &organization, uid, fields).await;
    }
    let large = bound(&world, &organization, "large").await;
    for index in 0..2 {
        until_limited(&world, &large, index, 60_000).await;
    }
    until_together(&world, 2).await;
    for (index, uid, refusals) in [(0, "one", 4), (1, "one", 3), (1, "two", 2)] {
        until_refused(&world.producer_at(&organization, index), uid, refusals).await;
    }
    for index in 0..2 {
        until("both replicas' refusals", async || {
            let limited = limited(&world, index, &organization.key).await;
            match limited.as_slice() {
                [(one, Some(7)), (two, Some(2))] if one == "one" && two == "two" => Ok(()),
                others => Err(format!("{others:?}")),
            }
        })
        .await;
        for key in [&large.key, &other.key] {
            assert!(limited(&world, index, key).await.is_empty());
        }
    }
    world.finish().await;
}
