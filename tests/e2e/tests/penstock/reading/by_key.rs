//! Finding events by their idempotency keys.

use e2e::{Event, accepted};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{self, make, request, text, wrong_fields};
use crate::setup;

#[tokio::test]
async fn an_event_is_found_by_its_key_within_its_tenant_and_a_cloudevent_by_its_source_and_id() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let of = |tenant: Option<&str>| {
        Event::new("a", "1")
            .of_tenant(tenant)
            .with_idempotency_key("order-1/ä")
    };
    let own = producer.send(&of(None)).await;
    let of_acme = producer.send(&of(Some("acme"))).await;
    producer.send(&Event::new("a", "2")).await;
    let cloudevent = json!({"specversion": "1.0", "id": "1", "source": "/shop", "type": "a", "data": 1});
    let post = producer
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .body(cloudevent.to_string());
    let from_shop = accepted(post.send().await.expect("ingest-api answers")).await;
    world.settle().await;

    let path = |query: &[(&str, &str)]| {
        let mut url = reqwest::Url::parse("http://host/v1/events").expect("it is one");
        url.query_pairs_mut().extend_pairs(query);
        format!("{}?{}", url.path(), url.query().unwrap_or_default())
    };
    let found = async |key: &str, query: &[(&str, &str)]| {
        let page: Value = calls::json(request(&world, 0, Method::GET, &path(query), key)).await;
        assert_eq!(page["next_cursor"], Value::Null);
        let events = page["data"].as_array().expect("it is a list");
        events
            .iter()
            .map(|event| text(event, "id").to_owned())
            .collect::<Vec<_>>()
    };
    let key = ("idempotency_key", "order-1/ä");
    assert_eq!(found(&organization.key, &[key]).await, [own.to_string()]);
    let acme = ("tenant", "acme");
    assert_eq!(
        found(&organization.key, &[key, acme]).await,
        [of_acme.to_string()]
    );
    let other = ("idempotency_key", "order-2");
    assert!(found(&organization.key, &[other]).await.is_empty());
    let source_and_id = ("idempotency_key", r#"["/shop","1"]"#);
    assert_eq!(
        found(&organization.key, &[source_and_id]).await,
        [from_shop.to_string()]
    );
    let tenant = request(&world, 0, Method::PUT, "/v1/tenants/acme", &organization.key);
    calls::json(tenant.json(&json!({}))).await;
    let bound = json!({"name": "acme", "scopes": ["manage"], "tenant": "acme"});
    let bound = make(&world, &organization.key, &bound).await;
    assert_eq!(found(text(&bound, "key"), &[key]).await, [of_acme.to_string()]);

    let stranger = world.organization().await;
    assert!(found(&stranger.key, &[key]).await.is_empty());
    for (query, field) in [
        (&[key, ("type", "a")][..], "type"),
        (&[key, ("status", "dead")][..], "status"),
        (&[("idempotency_key", "")][..], "idempotency_key"),
    ] {
        let refused = request(&world, 0, Method::GET, &path(query), &organization.key);
        let wrong = wrong_fields(refused).await;
        assert!(wrong.starts_with(field), "{wrong}");
    }
    world.finish().await;
}
