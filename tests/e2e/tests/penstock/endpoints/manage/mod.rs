//! Endpoints: made, shown, listed, changed and deleted over the API.

mod changes;
mod fields;
mod own_events;
mod secrets;

use e2e::{Organization, World};
use reqwest::header::HeaderValue;
use reqwest::{Method, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::calls::{call, json, status};
use crate::world;

/// Stands in everything that is shown to nobody again.
const CANARY: &str = "canary-77aa01";

async fn make(world: &World, organization: &Organization, body: &Value) -> Value {
    json(call(world, organization, Method::POST, "").json(body)).await
}

fn path_of(endpoint: &Value) -> String {
    format!("/{}", endpoint["id"].as_str().expect("an endpoint has an id"))
}

/// Everything that can be set, in another way than it is by default.
fn everything() -> Value {
    json!({
        "url": "https://example.com/hook",
        "description": "orders",
        "event_types": ["order.*"],
        "filter": {"/total": {"gte": 100}},
        "headers": {"X-Shop": CANARY, "X-Token": CANARY},
        "format": "cloudevents",
        "method": "PUT",
        "signatures": [{"scheme": "ed25519", "until": "2031-01-01T00:00:00Z"}, {"scheme": "slack", "secret": CANARY}],
        "auth": {"kind": "oauth2_client_credentials", "token_url": "https://example.com/token", "client_id": "shop",
                 "client_secret": CANARY, "scope": "a b", "client_auth": "body"},
        "retry": {"attempts": 3, "initial_seconds": 0.5, "factor": 2.0, "max_seconds": 60.0, "max_age_seconds": 3600.0},
        "timeout_ms": 5000,
        "max_in_flight": 7,
        "rate_limit_per_second": 20,
        "ordered": true,
        "on_exhausted": "block",
        "status": "disabled",
    })
}

#[tokio::test]
async fn an_endpoint_is_shown_as_it_was_made_and_is_gone_when_deleted() {
    let world = world().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let mut made = make(&world, &owner, &everything()).await;
    let path = path_of(&made);
    let secret = made.as_object_mut().unwrap().remove("secret").unwrap();
    assert!(secret.as_str().unwrap().starts_with("whsec_"), "{secret}");
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    assert_eq!(shown, made);
    let mut expected = everything();
    expected["header_names"] = json!(["X-Shop", "X-Token"]);
    expected.as_object_mut().unwrap().remove("headers");
    expected["signatures"] = json!([
        {"scheme": "ed25519", "until": "2031-01-01T00:00:00.000000Z"},
        {"scheme": "hmac", "until": null, "header": "X-Slack-Signature", "hash": "sha256", "encoding": "hex",
         "prefix": "v0=", "signed": "v0:{timestamp}:{body}", "timestamp_header": "X-Slack-Request-Timestamp"},
    ]);
    expected["auth"].as_object_mut().unwrap().remove("client_secret");
    expected["disabled_reason"] = json!("disabled through the API");
    expected["health"] = json!({"state": "healthy", "consecutive_failures": 0, "failing_since": null, "circuit_open_until": null, "waiting_until": null});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&shown[field], value, "{field}");
    }

    let delete = |owner| call(&world, owner, Method::DELETE, &path);
    assert_eq!(status(delete(&stranger)).await, 404);
    assert_eq!(
        status(delete(&owner).header("if-match", "\"0\"")).await,
        StatusCode::PRECONDITION_FAILED
    );
    assert_eq!(status(delete(&owner)).await, StatusCode::NO_CONTENT);
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(status(call(&world, &owner, method, &path)).await, 404);
    }
    let change = call(&world, &owner, Method::PATCH, &path).json(&json!({}));
    assert_eq!(status(change).await, 404);
    let list = json(call(&world, &owner, Method::GET, "")).await;
    assert_eq!(list["data"], json!([]));
    world.finish().await;
}

/// An endpoint as an answer shows it, and its version.
async fn with_version(request: RequestBuilder) -> (Value, HeaderValue) {
    let answer = request.send().await.expect("ingest-api answers");
    assert!(answer.status().is_success(), "{answer:?}");
    let version = answer.headers()["etag"].clone();
    (answer.json().await.expect("the answer is JSON"), version)
}

#[tokio::test]
async fn the_answer_to_a_new_endpoint_is_what_is_shown_of_it_afterwards() {
    let world = world().await;
    let owner = world.organization().await;
    let bodies = [
        everything(),
        json!({"url": "https://example.com/", "retry": {"initial_seconds": 0.1239}}),
        json!({"kind": "pull", "tenant": "acme", "create_tenant": true, "max_in_flight": 5}),
        json!({"kind": "pull", "all_tenants": true, "retry": {"max_age_seconds": 1.5}}),
    ];
    for body in bodies {
        let (mut made, version) = with_version(call(&world, &owner, Method::POST, "").json(&body)).await;
        made.as_object_mut().unwrap().remove("secret");
        let shown = call(&world, &owner, Method::GET, &path_of(&made));
        assert_eq!(with_version(shown).await, (made, version));
    }
    world.finish().await;
}

#[tokio::test]
async fn endpoints_are_listed_in_pages_newest_first() {
    let world = world().await;
    let (owner, stranger) = (world.organization().await, world.organization().await);
    let mut made = Vec::new();
    for _ in 0..5 {
        made.insert(
            0,
            make(&world, &owner, &json!({"kind": "pull"})).await["id"].clone(),
        );
    }
    make(&world, &stranger, &json!({"kind": "pull"})).await;
    let (mut listed, mut query) = (Vec::new(), "?limit=2".to_owned());
    loop {
        let page = json(call(&world, &owner, Method::GET, &query)).await;
        let ids = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| each["id"].clone());
        listed.extend(ids);
        assert!(listed.len() <= made.len(), "{listed:?}");
        match page["next_cursor"].as_str() {
            Some(cursor) => query = format!("?limit=2&cursor={cursor}"),
            None => break,
        }
    }
    assert_eq!(listed, made);
    world.finish().await;
}
