//! What must never be written down: keys, signing secrets, tokens, payloads.

use e2e::{Answer, Event, Organization, World};
use reqwest_middleware::RequestBuilder;
use serde_json::json;

use crate::calls::json;
use crate::setup;

/// Stands in payloads, idempotency keys and URLs.
const CANARY: &str = "canary-3f9c2b71";

/// Everything that our own code can log.
const LEVELS: &str = "info,ingest_api=trace,delivery_worker=trace,shared=trace";

/// An endpoint with the canary in its URL's query, and its secret.
async fn endpoint(world: &World, organization: &Organization, url: String) -> String {
    let path = format!("/admin/v1/organizations/{}/endpoints", organization.id);
    let request = world
        .http()
        .post(world.url(&path))
        .bearer_auth(world.stack().admin_token());
    let request = request.json(&json!({"url": url, "timeout_ms": 500}));
    json(request).await["secret"]
        .as_str()
        .expect("a new endpoint has a secret")
        .to_owned()
}

/// Endpoints that nothing reaches, with the canary in everything that their owner gave. Returns the secret of one.
async fn unreachable_endpoints(world: &World, organization: &Organization) -> String {
    let url = format!("http://127.0.0.1:9/{CANARY}?key={CANARY}");
    let secret = endpoint(world, organization, url).await;
    for auth in [
        json!({"kind": "basic", "username": CANARY, "password": CANARY}),
        json!({"kind": "bearer", "token": CANARY}),
        json!({"kind": "oauth2_client_credentials", "token_url": format!("http://127.0.0.1:9/{CANARY}"),
               "client_id": "client", "client_secret": CANARY}),
    ] {
        let signatures = json!([{"scheme": "standard"}, {"scheme": "github", "secret": CANARY}]);
        let fields =
            json!({"auth": auth, "signatures": signatures, "timeout_ms": 500, "headers": {"X-Own": CANARY}});
        world
            .endpoint_at(organization, "http://127.0.0.1:9/", fields)
            .await;
    }
    secret
}

/// Requests that are refused for what they say, which is the canary, or for their key, which is nearly one.
fn refused_requests(world: &World, organization: &Organization) -> [RequestBuilder; 6] {
    let producer = world.producer(organization);
    let wrong_key = format!("{}x", organization.key);
    let broken = format!(r#"{{"type":"a","data":"{CANARY}""#);
    [
        producer.post_event(broken),
        producer.post_event(format!(r#"{{"type":"a\n","data":"{CANARY}"}}"#)),
        producer
            .post("/v1/events")
            .header("content-type", "text/plain")
            .body(CANARY),
        world.http().post(world.url("/v1/events")).bearer_auth(&wrong_key),
        world
            .http()
            .post(world.url("/admin/v1/organizations"))
            .bearer_auth(&wrong_key),
        world
            .http()
            .get(world.url(&format!("/v1/events/{CANARY}")))
            .bearer_auth(&organization.key),
    ]
}

/// All that must stand nowhere.
fn secrets(world: &World, organization: &Organization, endpoint_secret: &str) -> [String; 5] {
    let database_password = world
        .stack()
        .database_url()
        .split(['@', ':'])
        .nth(2)
        .expect("the URL has one")
        .to_owned();
    [
        CANARY.to_owned(),
        // Without the public part, which may be named.
        organization.key[25..].to_owned(),
        endpoint_secret.trim_start_matches("whsec_").to_owned(),
        world.stack().admin_token().to_owned(),
        database_password,
    ]
}

#[tokio::test]
async fn keys_secrets_and_payloads_stand_in_no_log_no_metric_and_no_error() {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "2");
    let mut world = setup
        .ingest_env("RUST_LOG", LEVELS)
        .worker_env("RUST_LOG", LEVELS)
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    world.endpoint(&organization, &receiver).await;
    let endpoint_secret = unreachable_endpoints(&world, &organization).await;
    let event = Event::new("a", json!(CANARY).to_string()).with_idempotency_key(format!("key-{CANARY}"));
    world.producer(&organization).send(&event).await;
    world.until_deliveries_are(5, "dead").await;

    let secrets = secrets(&world, &organization, &endpoint_secret);
    for request in refused_requests(&world, &organization) {
        let answer = request.send().await.expect("ingest-api answers");
        assert!(answer.status().is_client_error());
        nothing_in(
            "an error",
            &answer.text().await.expect("an answer has a whole body"),
            &secrets,
        );
    }
    for service in world.stack().services() {
        let metrics = world
            .http()
            .get(service.metrics_url())
            .send()
            .await
            .expect("metrics are served");
        nothing_in(
            "the metrics",
            &metrics.text().await.expect("an answer has a whole body"),
            &secrets,
        );
        let log = service.log();
        assert!(log.contains(" INFO "), "there is a log");
        nothing_in(service.name(), &log, &secrets);
    }
    world.finish().await;
}

fn nothing_in(place: &str, text: &str, secrets: &[String]) {
    let found = text
        .lines()
        .find(|line| secrets.iter().any(|secret| line.contains(secret.as_str())));
    assert_eq!(found, None, "a secret in {place}");
}
