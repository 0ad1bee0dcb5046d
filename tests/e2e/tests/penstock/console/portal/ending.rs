//! How long a session lasts, and how it is ended.

use std::time::{Duration, Instant};

use e2e::{World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::{session, tenant};
use crate::calls::{self, json as read, request, status, text};
use crate::{two_replicas, world};

/// How long an ended session may still be taken.
const WITHIN: Duration = Duration::from_secs(1);

async fn tried(world: &World, index: usize, token: &str) -> StatusCode {
    status(request(world, index, Method::GET, "/v1/events", token)).await
}

async fn until_over(world: &World, token: &str) {
    let ended = Instant::now();
    let mut last_taken = Duration::ZERO;
    for index in [0, 1] {
        until("the session to be over", async || {
            let begun = ended.elapsed();
            match tried(world, index, token).await {
                StatusCode::UNAUTHORIZED => return Ok(()),
                StatusCode::OK => last_taken = begun,
                other => return Err(other.to_string()),
            }
            Err(format!("it is taken after {last_taken:?}"))
        })
        .await;
    }
    assert!(last_taken < WITHIN, "it was taken after {last_taken:?}");
}

#[tokio::test]
async fn an_ended_session_is_over_on_every_replica_within_a_second() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    for uid in ["acme", "globex"] {
        tenant(&world, &organization, uid).await;
    }
    let mut tokens = Vec::new();
    for uid in ["acme", "acme", "acme", "globex"] {
        let made = session(&world, &organization, uid, json!({})).await;
        let token = text(&made, "token").to_owned();
        for index in [0, 1] {
            assert_eq!(tried(&world, index, &token).await, 200);
        }
        tokens.push((text(&made, "id").to_owned(), token));
    }
    let delete = async |path: String| {
        let path = format!("/v1/tenants/acme{path}");
        assert!(
            status(request(&world, 0, Method::DELETE, &path, &organization.key))
                .await
                .is_success()
        );
    };
    delete(format!("/portal-sessions/{}", tokens[0].0)).await;
    until_over(&world, &tokens[0].1).await;
    assert_eq!(tried(&world, 1, &tokens[1].1).await, 200);
    delete("/portal-sessions".to_owned()).await;
    until_over(&world, &tokens[1].1).await;
    assert_eq!(tried(&world, 1, &tokens[2].1).await, 401);
    assert_eq!(tried(&world, 1, &tokens[3].1).await, 200);
    let later = session(&world, &organization, "acme", json!({})).await;
    assert_eq!(tried(&world, 1, text(&later, "token")).await, 200);
    delete(String::new()).await;
    until_over(&world, text(&later, "token")).await;
    let path = "/v1/tenants/acme/portal-sessions";
    let again = request(&world, 0, Method::POST, path, &organization.key).json(&json!({}));
    assert!(matches!(status(again).await.as_u16(), 404 | 409));
    world.finish().await;
}

#[tokio::test]
async fn a_session_lasts_no_longer_than_its_key_and_is_one_tenants() {
    let world = world().await;
    let (organization, stranger) = (world.organization().await, world.organization().await);
    tenant(&world, &organization, "acme").await;
    let short = json!({"name": "short", "scopes": ["manage"], "expires_at": "2030-01-01T00:00:00Z"});
    let short = calls::make(&world, &organization.key, &short).await;
    let path = "/v1/tenants/acme/portal-sessions";
    let post = |key: &str, body: Value| request(&world, 0, Method::POST, path, key).json(&body);
    let made = read(post(text(&short, "key"), json!({"ttl_seconds": 604_800}))).await;
    assert!(text(&made, "expires_at") < "2030-01-01T00:00:01Z");
    assert_eq!(status(post(&stranger.key, json!({}))).await, 404);
    assert_eq!(status(post(text(&made, "token"), json!({}))).await, 403);
    let ended = request(&world, 0, Method::DELETE, path, &stranger.key);
    assert_eq!(status(ended).await, 404);
    let forged = format!("{}A", text(&made, "token"));
    assert_eq!(tried(&world, 0, &forged).await, 401);
    for (body, field) in [
        (json!({"ttl_seconds": 59}), "ttl_seconds"),
        (json!({"ttl_seconds": 604_801}), "ttl_seconds"),
        (json!({"capabilities": []}), "capabilities"),
        (json!({"capabilities": ["fly"]}), "capabilities[0]"),
        (json!({"event_types": ["a b"]}), "event_types[0]"),
        (json!({"return_url": "javascript:alert(1)"}), "return_url"),
    ] {
        let answer = post(&organization.key, body).send().await.unwrap();
        assert_eq!(answer.status(), 422);
        let answer: Value = answer.json().await.unwrap();
        assert_eq!(answer["errors"][0]["field"], field, "{answer}");
    }
    world.finish().await;
}
