//! `/v1/tenants`, and where else a tenant is named.

use e2e::{Organization, World, until};
use futures_util::future::join_all;
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use super::{bound, tenant};
use crate::calls::{self, answer, request, status, text};
use crate::{setup, world};

fn on(world: &World, organization: &Organization, method: Method, uid: &str) -> RequestBuilder {
    request(world, 0, method, &format!("/v1/tenants/{uid}"), &organization.key)
}

#[tokio::test]
async fn a_tenant_is_made_shown_changed_and_set_anew() {
    let world = world().await;
    let organization = world.organization().await;
    assert_eq!(status(on(&world, &organization, Method::GET, "acme")).await, 404);
    let fields = json!({"name": "Acme", "metadata": {"plan": "pro"}, "rate_limit_per_minute": 60});
    let made = on(&world, &organization, Method::PUT, "acme")
        .json(&fields)
        .send()
        .await;
    let made = made.expect("ingest-api answers");
    assert_eq!(made.status(), 201);
    let first = made.headers()["etag"].clone();
    let shown = calls::json(on(&world, &organization, Method::GET, "acme")).await;
    for (field, value) in fields.as_object().expect("it is an object") {
        assert_eq!(&shown[field], value);
    }
    assert_eq!(
        (&shown["uid"], &shown["status"]),
        (&json!("acme"), &json!("enabled"))
    );

    let change = json!({"metadata": {"plan": null, "region": "eu"}, "status": "disabled"});
    let patch = || {
        let patch = on(&world, &organization, Method::PATCH, "acme").header("if-match", &first);
        patch.json(&change)
    };
    let changed = calls::json(patch()).await;
    assert_eq!(changed["metadata"], json!({"region": "eu"}));
    assert_eq!(
        (&changed["name"], &changed["status"]),
        (&json!("Acme"), &json!("disabled"))
    );
    assert_eq!(status(patch()).await, 412, "it was changed since");

    let again = on(&world, &organization, Method::PUT, "acme")
        .json(&json!({"name": "A"}))
        .send()
        .await;
    let again = again.expect("ingest-api answers");
    assert_eq!(again.status(), 200);
    let again: Value = again.json().await.expect("the answer is JSON");
    assert_eq!(
        (
            &again["metadata"],
            &again["rate_limit_per_minute"],
            &again["status"]
        ),
        (&json!({}), &Value::Null, &json!("enabled"))
    );
    let stale = on(&world, &organization, Method::DELETE, "acme").header("if-match", &first);
    assert_eq!(status(stale).await, 412, "it was changed since");
    let other = world.organization().await;
    for method in [Method::GET, Method::PATCH, Method::DELETE] {
        let foreign = on(&world, &other, method, "acme").json(&json!({}));
        assert_eq!(status(foreign).await, 404);
    }
    world.finish().await;
}

#[tokio::test]
async fn tenants_are_listed_in_pages_and_by_the_beginning_of_their_ids() {
    let world = world().await;
    let organization = world.organization().await;
    let uids = ["a/1", "a/2", "a/3", "b", "%", "ü"];
    for encoded in ["a%2F1", "a%2F2", "a%2F3", "b", "%25", "%C3%BC"] {
        tenant(&world, &organization, encoded, json!({})).await;
    }
    let list = async |query: &str| {
        let path = format!("/v1/tenants{query}");
        calls::json(request(&world, 0, Method::GET, &path, &organization.key)).await
    };
    let names = |page: &Value| -> Vec<String> {
        let data = page["data"].as_array().expect("a page has data");
        data.iter().map(|each| text(each, "uid").to_owned()).collect()
    };
    let (mut seen, mut query) = (Vec::new(), "?limit=4".to_owned());
    loop {
        let page = list(&query).await;
        seen.extend(names(&page));
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        query = format!("?limit=4&cursor={cursor}");
    }
    let mut sorted = uids.map(str::to_owned);
    sorted.sort();
    assert_eq!(seen, sorted);
    assert_eq!(names(&list("?prefix=a%2F").await), ["a/1", "a/2", "a/3"]);
    assert_eq!(names(&list("?prefix=%25").await), ["%"]);
    assert_eq!(names(&list("?prefix=nothing").await), [""; 0]);
    let wrong = request(&world, 0, Method::GET, "/v1/tenants?cursor=x", &organization.key);
    assert_eq!(status(wrong).await, 422);
    world.finish().await;
}

#[tokio::test]
async fn bad_input_about_tenants_is_refused_with_the_fields_name() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme", json!({})).await;
    let long = "x".repeat(256);
    let put =
        async |uid: &str, body: Value| answer(on(&world, &organization, Method::PUT, uid).json(&body)).await;
    let named = |answer: &str, field: &str| {
        let expected = format!("\"field\":\"{field}\"");
        assert!(
            answer.contains("422") && answer.contains(&expected),
            "{field}: {answer}"
        );
    };
    named(&put(&long, json!({})).await, "uid");
    named(&put("a%20b", json!({})).await, "uid");
    named(&put("a", json!({"uid": "b"})).await, "uid");
    named(&put("a", json!({"metadata": {"a": 1}})).await, "metadata.a");
    named(
        &put("a", json!({"metadata": {"a": "x".repeat(5_000)}})).await,
        "metadata",
    );
    named(
        &put("a", json!({"rate_limit_per_minute": 0})).await,
        "rate_limit_per_minute",
    );
    named(&put("a", json!({"status": "deleting"})).await, "status");

    let endpoint = async |fields: Value| {
        let mut body = json!({"kind": "pull"});
        for (name, value) in fields.as_object().expect("it is an object") {
            body[name] = value.clone();
        }
        let request = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
        answer(request.json(&body)).await
    };
    named(
        &endpoint(json!({"tenant": "acme", "all_tenants": true})).await,
        "all_tenants",
    );
    named(&endpoint(json!({"create_tenant": true})).await, "create_tenant");
    named(&endpoint(json!({"tenant": "a b"})).await, "tenant");
    let unknown = endpoint(json!({"tenant": "nobody"})).await;
    assert!(unknown.contains("404"), "{unknown}");
    let made = endpoint(json!({"tenant": "nobody", "create_tenant": true})).await;
    assert!(made.contains("201"), "{made}");
    assert_eq!(
        status(on(&world, &organization, Method::GET, "nobody")).await,
        200
    );

    let key = json!({"name": "k", "scopes": ["ingest"], "tenant": "unknown"});
    let key = request(&world, 0, Method::POST, "/v1/keys", &organization.key).json(&key);
    assert_eq!(status(key).await, 404);
    let event = json!({"type": "a", "data": 1, "tenant": ""});
    let event = request(&world, 0, Method::POST, "/v1/events", &organization.key).json(&event);
    named(&answer(event).await, "tenant");
    world.finish().await;
}

#[tokio::test]
async fn what_is_fixed_when_an_endpoint_is_made_cannot_be_changed() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme", json!({})).await;
    let body = json!({"kind": "pull", "tenant": "acme"});
    let made = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key).json(&body);
    let made = calls::json(made).await;
    let path = format!("/v1/endpoints/{}", text(&made, "id"));
    let change = async |fields: Value| {
        let changed = request(&world, 0, Method::PATCH, &path, &organization.key);
        status(changed.json(&fields)).await.as_u16()
    };
    assert_eq!(change(json!({"tenant": "acme", "description": "d"})).await, 200);
    assert_eq!(change(json!({"tenant": "other"})).await, 422);
    assert_eq!(change(json!({"all_tenants": true})).await, 422);
    assert_eq!(change(json!({"create_tenant": true})).await, 422);
    world.finish().await;
}

#[tokio::test]
async fn a_tenant_and_its_organisation_have_a_thousand_endpoints_each() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme", json!({})).await;
    let fill = "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, tenant)
                select gen_random_uuid(), $1, 'pull', '', 1, 1000, $2 from generate_series(1, 999)";
    let filled = sqlx::query(fill)
        .bind(organization.id)
        .bind("acme")
        .execute(world.database())
        .await;
    filled.expect("Postgres runs");
    let make = async |tenant: Option<&str>| {
        let body = json!({"kind": "pull", "tenant": tenant});
        let request = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
        status(request.json(&body)).await.as_u16()
    };
    assert_eq!(make(Some("acme")).await, 201);
    assert_eq!(make(Some("acme")).await, 409);
    assert_eq!(make(None).await, 201, "those of tenants are not counted here");
    let all = "update organizations set endpoints = 100000 where id = $1";
    let all = sqlx::query(all)
        .bind(organization.id)
        .execute(world.database())
        .await;
    all.expect("Postgres runs");
    assert_eq!(make(None).await, 409);
    let tenants = "update organizations set tenants = 100000 where id = $1";
    let tenants = sqlx::query(tenants)
        .bind(organization.id)
        .execute(world.database())
        .await;
    tenants.expect("Postgres runs");
    assert_eq!(
        status(on(&world, &organization, Method::PUT, "one-more")).await,
        409
    );
    assert_eq!(status(on(&world, &organization, Method::PUT, "acme")).await, 200);
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_is_bound_to_a_tenant_finds_no_tenants() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme", json!({})).await;
    let bound = bound(&world, &organization, "acme").await;
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::DELETE] {
        let request = on(&world, &bound, method.clone(), "acme").json(&json!({}));
        assert_eq!(status(request).await, 404, "{method}");
    }
    let list = request(&world, 0, Method::GET, "/v1/tenants", &bound.key);
    assert_eq!(status(list).await, 404);
    world.finish().await;
}

#[tokio::test]
async fn endpoints_and_tenants_are_made_and_deleted_all_at_once_and_counted_right() {
    // A connection for each request: none is answered 503 because others wait for the disk.
    let world = setup().ingest_env("DATABASE_CONNECTIONS", "30").start().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "kept", json!({})).await;
    let post = async |body: Value| {
        let request = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key);
        calls::json(request.json(&body)).await
    };
    let one = async |number: usize| {
        let uid = format!("t-{number}");
        let own = post(json!({"kind": "pull"})).await;
        let kept = post(json!({"kind": "pull", "tenant": "kept"})).await;
        post(json!({"kind": "pull", "tenant": uid, "create_tenant": true})).await;
        let status = json!({"status": if number.is_multiple_of(2) { "disabled" } else { "enabled" }});
        tenant(&world, &organization, "kept", status).await;
        for endpoint in [own, kept] {
            let path = format!("/v1/endpoints/{}", text(&endpoint, "id"));
            let delete = request(&world, 0, Method::DELETE, &path, &organization.key);
            assert_eq!(calls::status(delete).await, 204);
        }
        assert_eq!(
            calls::status(on(&world, &organization, Method::DELETE, &uid)).await,
            202
        );
    };
    join_all((0..24).map(one)).await;
    until("the tenants to be gone", async || {
        let counted: (i32, i32) =
            sqlx::query_as("select endpoints, tenants from organizations where id = $1")
                .bind(organization.id)
                .fetch_one(world.database())
                .await
                .expect("Postgres runs");
        if counted == (0, 1) {
            Ok(())
        } else {
            Err(format!("{counted:?}"))
        }
    })
    .await;
    world.finish().await;
}
