//! Changes of an endpoint: what they keep, which version they meet, and what they reset.

use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use super::{everything, make, path_of};
use crate::calls::{answer, call, json, status};
use crate::world;

#[tokio::test]
async fn a_change_keeps_what_it_leaves_out_and_resets_what_is_null() {
    let world = world().await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &everything()).await;
    let path = path_of(&made);
    let change = async |body: Value| json(call(&world, &owner, Method::PATCH, &path).json(&body)).await;
    let before = json(call(&world, &owner, Method::GET, &path)).await;
    let same = change(json!({})).await;
    for (field, value) in before.as_object().unwrap() {
        assert!(field == "updated_at" || same[field] == *value, "{field} changed");
    }
    let changed = change(json!({
        "description": "x",
        "filter": {"/a": null},
        "headers": {"x-shop": null, "X-New": "1"},
        "retry": {"attempts": null, "factor": 4},
    }))
    .await;
    assert_eq!(changed["description"], "x");
    assert_eq!(
        changed["filter"],
        json!({"/a": null}),
        "a filter is replaced as a whole"
    );
    assert_eq!(changed["header_names"], json!(["X-New", "X-Token"]));
    assert_eq!(
        changed["retry"],
        json!({"attempts": null, "initial_seconds": 0.5, "factor": 4.0, "max_seconds": 60.0, "max_age_seconds": 3600.0})
    );
    assert_eq!(
        (&changed["status"], &changed["timeout_ms"]),
        (&json!("disabled"), &json!(5000))
    );

    let fields = everything();
    let fields = fields.as_object().unwrap().keys().filter(|field| *field != "url");
    let reset = change(fields.map(|field| (field.clone(), Value::Null)).collect()).await;
    let mut plain = make(&world, &owner, &json!({"url": "https://example.com/hook"})).await;
    plain.as_object_mut().unwrap().remove("secret");
    for (field, value) in plain.as_object().unwrap() {
        let own = ["id", "created_at", "updated_at"].contains(&field.as_str());
        assert!(own || reset[field] == *value, "{field} is {}", reset[field]);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_change_is_made_only_to_the_version_that_it_names() {
    let world = world().await;
    let owner = world.organization().await;
    let path = path_of(&make(&world, &owner, &json!({"url": "https://example.com/"})).await);
    let tag = async || {
        let shown = call(&world, &owner, Method::GET, &path).send().await.unwrap();
        shown.headers()["etag"].to_str().unwrap().to_owned()
    };
    let change = |tag: &str| {
        let request = call(&world, &owner, Method::PATCH, &path).header("if-match", tag);
        request.json(&json!({"description": "x"}))
    };
    let old = tag().await;
    let changed = change(&old).send().await.unwrap();
    assert_eq!(changed.status(), 200);
    let new = tag().await;
    assert_eq!(changed.headers()["etag"], new.as_str());
    assert_ne!(old, new);
    insta::assert_snapshot!(answer(change(&old)).await, @r#"
    412 Precondition Failed
    content-type: application/problem+json

    {"type":"about:blank","title":"Precondition Failed","status":412,"detail":"it was changed since: `If-Match` names another version"}
    "#);
    for wrong in ["x", &format!("W/{new}"), "\"0\", \"1\""] {
        assert_eq!(status(change(wrong)).await, 412, "{wrong}");
    }
    assert_eq!(status(change(&format!("\"0\", {new}"))).await, 200);
    assert_eq!(status(change("*")).await, 200);
    world.finish().await;
}

#[tokio::test]
async fn changes_at_the_same_time_are_all_made() {
    let world = world().await;
    let owner = world.organization().await;
    let path = path_of(&make(&world, &owner, &json!({"url": "https://example.com/"})).await);
    let change = |body: Value| json(call(&world, &owner, Method::PATCH, &path).json(&body));
    futures_util::future::join3(
        change(json!({"description": "x"})),
        change(json!({"timeout_ms": 100})),
        change(json!({"headers": {"x-a": "1"}})),
    )
    .await;
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    let seen = [
        &shown["description"],
        &shown["timeout_ms"],
        &shown["header_names"],
    ];
    assert_eq!(seen, [&json!("x"), &json!(100), &json!(["x-a"])]);
    world.finish().await;
}

#[tokio::test]
async fn a_change_may_be_called_the_merge_patch_that_it_is() {
    let world = world().await;
    let organization = world.organization().await;
    let endpoint = make(&world, &organization, &everything()).await;
    let with_body = |request: RequestBuilder, content_type: &str, body: &Value| {
        request
            .header("content-type", content_type)
            .body(body.to_string())
    };
    let path = path_of(&endpoint);
    let change = json!({"description": "changed", "filter": null});
    let own = || call(&world, &organization, Method::PATCH, &path);
    let changed = json(with_body(
        own(),
        "application/merge-patch+json; charset=utf-8",
        &change,
    ))
    .await;
    assert_eq!(
        (&changed["description"], &changed["filter"]),
        (&json!("changed"), &Value::Null)
    );
    for (content_type, expected) in [("application/json", 200), ("application/json-patch+json", 415)] {
        assert_eq!(status(with_body(own(), content_type, &change)).await, expected);
    }
    let made = call(&world, &organization, Method::POST, "");
    assert_eq!(
        status(with_body(made, "application/merge-patch+json", &everything())).await,
        415
    );
    let url = world.url(&format!("/admin/v1/organizations/{}", organization.id));
    let admin = world.http().patch(url).bearer_auth(world.stack().admin_token());
    let renamed = with_body(admin, "application/merge-patch+json", &json!({"name": "renamed"}));
    assert_eq!(json(renamed).await["name"], "renamed");
    world.finish().await;
}

#[tokio::test]
async fn enabling_an_endpoint_closes_its_circuit() {
    let world = world().await;
    let owner = world.organization().await;
    let made = make(&world, &owner, &json!({"url": "https://example.com/"})).await;
    let path = path_of(&made);
    let change = async |body: Value| json(call(&world, &owner, Method::PATCH, &path).json(&body)).await;
    let fail = async || {
        sqlx::query(
            "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, open_until)
             select id, org_id, 9, now() - interval '1 hour', now() + interval '1 minute' from endpoints",
        )
        .execute(world.database())
        .await
        .unwrap();
    };
    fail().await;
    let disabled = change(json!({"status": "disabled"})).await;
    assert_eq!(disabled["disabled_reason"], "disabled through the API");
    let health = &disabled["health"];
    assert_eq!(
        (&health["state"], &health["consecutive_failures"]),
        (&json!("failing"), &json!(9))
    );
    assert!(health["failing_since"].is_string() && health["circuit_open_until"].is_string());
    sqlx::query("update endpoints set disabled_reason = 'gone'")
        .execute(world.database())
        .await
        .unwrap();
    let still = change(json!({"status": "disabled", "description": "x"})).await;
    assert_eq!(still["disabled_reason"], "gone", "it was disabled before");
    assert_eq!(still["health"]["state"], "failing");
    let enabled = change(json!({"status": "enabled"})).await;
    assert_eq!(
        (&enabled["status"], &enabled["disabled_reason"]),
        (&json!("enabled"), &Value::Null)
    );
    assert_eq!(enabled["health"]["state"], "healthy");
    world.finish().await;
}
