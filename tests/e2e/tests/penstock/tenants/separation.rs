//! A key that is bound to a tenant sees and changes only what is that tenant's.

use e2e::{Event, Organization};
use reqwest::Method;
use serde_json::{Value, json};

use super::{bound, send, tenant};
use crate::calls::{self, make, request, status, text};
use crate::http::openapi::{call, document, operations, with_ids};
use crate::{setup, world};

/// Calls every operation under `/v1` and of the Zapier API whose path holds an id, with ids of another tenant of the same
/// organisation, of the organisation itself, and of the endpoint of all tenants.
#[tokio::test]
async fn another_tenants_ids_name_nothing_on_any_route() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let (owner, stranger) = (
        bound(&world, &organization, "one").await,
        bound(&world, &organization, "two").await,
    );
    let receiver = world.receiver().await;
    let of_one = json!({"tenant": "one"});
    let endpoint = world.endpoint_with(&organization, &receiver, of_one).await;
    let own_endpoint = world.endpoint(&organization, &receiver).await;
    let event = send(&world.producer(&organization), Some("one"), "1").await;
    let own = send(&world.producer(&organization), None, "1").await;
    for id in [event, own] {
        world.until_delivery_is(id, "delivered").await;
    }
    let foreign = [
        event.to_string(),
        own.to_string(),
        endpoint.id.to_string(),
        own_endpoint.id.to_string(),
        owner.key[8..24].to_owned(),
        organization.key[8..24].to_owned(),
        "one".to_owned(),
    ];
    let document = document(&world).await;
    let (mut called, mut seen) = (0, 0);
    for (path, method, operation) in operations(&document) {
        if !path.starts_with("/v1/") && !path.starts_with("/api/") {
            continue;
        }
        for path in with_ids(path, &foreign) {
            let status = call(&world, &stranger, method, &path, operation).await;
            assert_eq!(status, 404, "{method} {path} of another tenant");
            if method == "get" && call(&world, &owner, method, &path, operation).await == 200 {
                seen += 1;
            }
            called += 1;
        }
    }
    assert!(called >= 100, "there are routes with ids: {called}");
    assert!(seen >= 4, "the owner sees something under the same paths");
    world.finish().await;
}

#[tokio::test]
async fn lists_hold_what_is_the_keys_tenants_or_the_one_that_the_query_names() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let producer = world.producer(&organization);
    let (mut events, mut endpoints, mut keys) = (Vec::new(), Vec::new(), Vec::new());
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
        let fields = json!({"tenant": uid});
        endpoints.push(
            world
                .endpoint_with(&organization, &receiver, fields)
                .await
                .id
                .to_string(),
        );
        let mut sent = Vec::new();
        for data in ["1", "2", "3"] {
            sent.push(send(&producer, Some(uid), data).await.to_string());
        }
        sent.reverse();
        events.push(sent);
        keys.push(bound(&world, &organization, uid).await);
    }
    world.endpoint(&organization, &receiver).await;
    send(&producer, None, "1").await;
    world.settle().await;
    let list = async |key: &Organization, path: &str| {
        let answer = request(&world, 0, Method::GET, path, &key.key).send().await;
        let answer = answer.expect("ingest-api answers");
        if answer.status() != 200 {
            return Err(answer.status().as_u16());
        }
        let page: Value = answer.json().await.expect("the answer is JSON");
        Ok(page)
    };
    let ids = |page: Result<Value, u16>| -> Vec<String> {
        let page = page.expect("the list is shown");
        let data = page["data"].as_array().expect("a page has data");
        data.iter().map(|each| text(each, "id").to_owned()).collect()
    };
    assert_eq!(ids(list(&organization, "/v1/events").await).len(), 7);
    assert_eq!(ids(list(&organization, "/v1/endpoints").await).len(), 3);
    assert_eq!(ids(list(&organization, "/v1/keys").await).len(), 3);
    for (index, uid) in ["one", "two"].into_iter().enumerate() {
        let key_id = keys[index].key[8..24].to_owned();
        for (who, query) in [
            (&organization, format!("?tenant={uid}")),
            (&keys[index], String::new()),
        ] {
            assert_eq!(ids(list(who, &format!("/v1/events{query}")).await), events[index]);
            assert_eq!(
                ids(list(who, &format!("/v1/endpoints{query}")).await),
                [endpoints[index].clone()]
            );
            assert_eq!(
                ids(list(who, &format!("/v1/keys{query}")).await),
                std::slice::from_ref(&key_id)
            );
        }
        let other = &keys[1 - index];
        for path in ["/v1/events", "/v1/endpoints", "/v1/keys"] {
            assert_eq!(list(other, &format!("{path}?tenant={uid}")).await, Err(422));
        }
        let path = format!("/v1/endpoints/{}/deliveries?status=delivered", endpoints[index]);
        let page = list(&keys[index], &path).await.expect("the list is shown");
        assert_eq!(page["data"].as_array().map(Vec::len), Some(3));
    }
    // The place in one tenant's list is a place in another one's, where it shows that one's rows.
    let page = list(&keys[1], "/v1/events?limit=1")
        .await
        .expect("the list is shown");
    let cursor = text(&page, "next_cursor");
    let seen = ids(list(&keys[0], &format!("/v1/events?cursor={cursor}")).await);
    assert!(seen.iter().all(|id| events[0].contains(id)), "{seen:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_bound_key_sends_and_makes_for_its_tenant_only() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let key = bound(&world, &organization, "one").await;
    let receiver = world.receiver().await;
    let all = json!({"all_tenants": true});
    world.endpoint_with(&organization, &receiver, all).await;
    let producer = world.producer(&key);
    let sent = [
        producer.send(&Event::new("a", "1")).await,
        send(&producer, Some("one"), "2").await,
        calls::text(
            &calls::json(
                producer
                    .post("/api/events")
                    .json(&json!({"type": "a", "payload": 3})),
            )
            .await,
            "id",
        )
        .parse()
        .expect("an id"),
    ];
    let other = json!({"type": "a", "data": 1, "tenant": "two"});
    let refused = request(&world, 0, Method::POST, "/v1/events", &key.key).json(&other);
    assert_eq!(status(refused).await, 422);
    let batch = request(&world, 0, Method::POST, "/v1/events/batch", &key.key).json(&json!([other]));
    assert_eq!(status(batch).await, 207);
    world.settle().await;
    let webhooks = receiver.webhooks();
    assert_eq!(webhooks.len(), sent.len());
    for webhook in &webhooks {
        let body: Value = serde_json::from_slice(&webhook.body).expect("a webhook is JSON");
        assert_eq!(body["tenant"], "one");
    }

    let post = |path: &str, body: &Value| request(&world, 0, Method::POST, path, &key.key).json(body);
    let endpoint = calls::json(post("/v1/endpoints", &json!({"kind": "pull"}))).await;
    assert_eq!(endpoint["tenant"], "one");
    for body in [
        json!({"kind": "pull", "tenant": "two"}),
        json!({"kind": "pull", "all_tenants": true}),
    ] {
        assert_eq!(status(post("/v1/endpoints", &body)).await, 422);
    }
    let made = make(&world, &key.key, &json!({"name": "k", "scopes": ["ingest"]})).await;
    assert_eq!(made["tenant"], "one");
    let other = json!({"name": "k", "scopes": ["ingest"], "tenant": "two"});
    assert_eq!(status(post("/v1/keys", &other)).await, 422);
    let rotate = format!("/v1/keys/{}/rotate", text(&made, "id"));
    let rotated = calls::json(post(&rotate, &json!({}))).await;
    assert_eq!(rotated["tenant"], "one");
    for path in ["/api/keys", "/api/inbox"] {
        let whole = request(&world, 0, Method::GET, path, &key.key);
        assert_eq!(status(whole).await, 404, "{path} is the organisation's");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_is_not_shown_what_the_organisation_does_with_its_events() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "one", json!({})).await;
    let key = bound(&world, &organization, "one").await;
    let receiver = world.receiver().await;
    let of_one = json!({"tenant": "one"});
    let of_one = world.endpoint_with(&organization, &receiver, of_one).await;
    let all = json!({"all_tenants": true});
    let all = world.endpoint_with(&organization, &receiver, all).await;
    let event = send(&world.producer(&organization), Some("one"), "1").await;
    world.settle().await;
    let path = format!("/v1/events/{event}");
    let deliveries = async |key: &str| {
        let shown = calls::json(request(&world, 0, Method::GET, &path, key)).await;
        shown["deliveries"]
            .as_array()
            .expect("deliveries are a list")
            .clone()
    };
    assert_eq!(deliveries(&organization.key).await.len(), 2);
    let seen = deliveries(&key.key).await;
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0]["endpoint_id"], json!(of_one.id));
    let found = async |key: &str, query: &str| {
        let path = format!("/v1/events?{query}");
        let page = calls::json(request(&world, 0, Method::GET, &path, key)).await;
        page["data"].as_array().map(Vec::len)
    };
    let to_all = format!("status=delivered&endpoint={}", all.id);
    assert_eq!(
        found(&organization.key, &format!("tenant=one&{to_all}")).await,
        Some(1)
    );
    assert_eq!(found(&key.key, &to_all).await, Some(0));
    assert_eq!(found(&key.key, &format!("endpoint={}", of_one.id)).await, Some(1));
    let replay = request(&world, 0, Method::POST, &format!("{path}/replay"), &key.key);
    let replayed = calls::json(replay).await;
    assert_eq!(replayed["endpoint_ids"], json!([of_one.id]));
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn a_bound_key_grants_nothing_to_a_release_that_knows_no_tenants() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "one", json!({})).await;
    let key = bound(&world, &organization, "one").await;
    let scopes: Vec<String> = sqlx::query_scalar("select scopes from api_keys where id = $1")
        .bind(&key.key[8..24])
        .fetch_one(world.database())
        .await
        .expect("Postgres runs");
    assert_eq!(scopes, ["tenant:ingest", "tenant:manage"]);
    world.finish().await;
}
