//! An endpoint's deliveries, listed and counted.

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::json;
use shared::domain::id::{EndpointId, EventId};

use super::{on_event, quiet_endpoint, stored};
use crate::calls::{call, json, status};
use crate::world;

/// The events of all pages of an endpoint's deliveries.
async fn listed(world: &World, owner: &Organization, endpoint: EndpointId, query: &str) -> Vec<EventId> {
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/{endpoint}/deliveries?limit=2{query}{cursor}");
        let page = json(call(world, owner, Method::GET, &path)).await;
        for each in page["data"].as_array().expect("a page has data") {
            seen.push(serde_json::from_value::<EventId>(each["event_id"].clone()).expect("it is an id"));
        }
        assert!(seen.len() <= 7, "{seen:?}");
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return seen,
        }
    }
}

/// Strangers find no endpoint there, and nobody gets an answer to a query that is none.
async fn others_and_wrong_queries_are_refused(
    world: &World,
    owner: &Organization,
    stranger: &Organization,
    endpoint: EndpointId,
) {
    for path in ["/deliveries", "/deliveries/summary"] {
        let foreign = call(world, stranger, Method::GET, &format!("/{endpoint}{path}"));
        assert_eq!(status(foreign).await, 404);
    }
    for wrong in [
        "status=lost",
        "limit=0",
        "cursor=x",
        "outcome=%00",
        "outcome=lost",
        "colour=red",
    ] {
        let list = call(
            world,
            owner,
            Method::GET,
            &format!("/{endpoint}/deliveries?{wrong}"),
        );
        assert_eq!(status(list).await, 422, "{wrong}");
    }
}

#[tokio::test]
async fn an_endpoints_deliveries_are_listed_and_counted_by_reason() {
    let world = world().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let (endpoint, other) = (
        quiet_endpoint(&world, &owner).await,
        quiet_endpoint(&world, &owner).await,
    );
    let mut ids = std::collections::BTreeMap::<&str, Vec<EventId>>::new();
    for minutes in 0..7 {
        for status in ["dead", "pending", "delivered"] {
            let outcome = if minutes % 3 == 0 { "timeout" } else { "status" };
            let id = stored(&world, endpoint, status, outcome, minutes).await;
            ids.entry(status).or_default().push(id);
        }
        stored(&world, other, "dead", "dns", minutes).await;
    }
    let list = async |query: &str| listed(&world, &owner, endpoint, query).await;
    for status in ["dead", "pending", "delivered"] {
        let all = &ids[status];
        assert_eq!(list(&format!("&status={status}")).await, *all, "{status}");
        let timeouts = list(&format!("&status={status}&outcome=timeout")).await;
        assert_eq!(timeouts, [all[0], all[3], all[6]], "{status}");
    }
    assert_eq!(list("").await, ids["dead"], "the dead ones unless told otherwise");
    let first = json(call(
        &world,
        &owner,
        Method::GET,
        &format!("/{endpoint}/deliveries?status=pending"),
    ))
    .await;
    let first = &first["data"][0];
    assert_eq!(
        (&first["event_type"], &first["attempts"], &first["last_outcome"]),
        (&json!("a"), &json!(2), &json!("timeout"))
    );
    assert!(first["next_attempt_at"].is_string() && first["finished_at"].is_null());

    let summary = json(call(
        &world,
        &owner,
        Method::GET,
        &format!("/{endpoint}/deliveries/summary"),
    ))
    .await;
    let counts = json!({"total": 7, "capped": false, "outcomes": [
        {"outcome": "status", "count": 4}, {"outcome": "timeout", "count": 3},
    ]});
    assert_eq!(summary, json!({"pending": counts, "dead": counts}));
    others_and_wrong_queries_are_refused(&world, &owner, &stranger, endpoint).await;
    world.finish().await;
}

#[tokio::test]
async fn pending_deliveries_are_listed_whether_sent_in_order_or_fetched() {
    let world = world().await;
    let owner = world.organization().await;
    let endpoint = quiet_endpoint(&world, &owner).await;
    let mut ids = Vec::new();
    for minutes in 0..3 {
        ids.push(stored(&world, endpoint, "pending", "status", minutes).await);
    }
    let [_, ordered, pulled] = ids[..] else {
        panic!("{ids:?}")
    };
    let change = sqlx::query(
        "update deliveries set ordering_key = 'k', stream = 's', ordinal = 1 where event_id = $1",
    );
    change.bind(ordered).execute(world.database()).await.unwrap();
    let change = sqlx::query("update deliveries set pull = true where event_id = $1");
    change.bind(pulled).execute(world.database()).await.unwrap();
    let page = json(call(
        &world,
        &owner,
        Method::GET,
        &format!("/{endpoint}/deliveries?status=pending"),
    ))
    .await;
    let listed: Vec<_> = page["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|each| each["event_id"].clone())
        .collect();
    assert_eq!(json!(listed), json!(ids));
    let summary = json(call(
        &world,
        &owner,
        Method::GET,
        &format!("/{endpoint}/deliveries/summary"),
    ))
    .await;
    assert_eq!(summary["pending"]["total"], 3);
    world.execute("update events set ordering_key = 'k'").await;
    let shown = json(on_event(&world, &owner, Method::GET, ordered, "")).await;
    assert_eq!(shown["ordering_key"], "k");
    world.finish().await;
}
