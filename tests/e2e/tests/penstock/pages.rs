//! The way from page to page.

use std::collections::BTreeSet;

use e2e::{Organization, World};
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
