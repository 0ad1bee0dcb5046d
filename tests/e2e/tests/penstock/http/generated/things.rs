//! The things that paths name: events, endpoints, keys, organisations.

use e2e::{Event, Organization, World, until};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use super::run::Fixed;
use crate::calls::{json, make, request, status};

/// An organisation that no limit stops, and the header with its key.
pub(super) async fn unlimited(world: &World) -> (Organization, String) {
    let body = json!({"name": "schemathesis", "rate_limit_per_minute": 1_000_000_000});
    let organization = world.organization_with(&body).await;
    let header = format!("X-API-Key: {}", organization.key);
    (organization, header)
}

/// An event that a worker has stored.
async fn stored_event(world: &World, organization: &Organization) -> EventId {
    let event = world.producer(organization).send(&Event::new("a", "1")).await;
    until("the event to be stored", async || {
        let path = format!("/v1/events/{event}");
        let status = status(request(world, 0, Method::GET, &path, &organization.key)).await;
        if status == 200 {
            Ok(())
        } else {
            Err(status.to_string())
        }
    })
    .await;
    event
}

/// The answer to a `POST`, which succeeds.
async fn post(world: &World, organization: &Organization, path: &str, body: &Value) -> Value {
    json(request(world, 0, Method::POST, path, &organization.key).json(body)).await
}

/// The id of a key that no request uses.
async fn key(world: &World, organization: &Organization) -> Value {
    let body = json!({"name": "spare", "scopes": ["ingest"]});
    make(world, &organization.key, &body).await["id"].clone()
}

/// An endpoint, and an event that was delivered to it.
async fn delivered(world: &mut World, organization: &Organization) -> (Value, Value) {
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(organization, &receiver).await.id;
    let event = world.producer(organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(event, "delivered").await;
    (json!(endpoint), json!(event))
}

fn id(value: &Value) -> Vec<(&'static str, Value)> {
    vec![("path.id", value.clone())]
}

fn id_and(value: &Value, name: &'static str, other: &Value) -> Vec<(&'static str, Value)> {
    vec![("path.id", value.clone()), (name, other.clone())]
}

/// Things for the paths of events and keys. An operation that changes or removes a thing gets one of its own.
pub(super) async fn events_and_keys(world: &mut World, organization: &Organization) -> Fixed {
    let (endpoint, event) = delivered(world, organization).await;
    let tenant = vec![("path.uid", json!("acme"))];
    let path = "/v1/tenants/acme";
    json(request(world, 0, Method::PUT, path, &organization.key).json(&json!({}))).await;
    let session = post(
        world,
        organization,
        &format!("{path}/portal-sessions"),
        &json!({}),
    )
    .await;
    let session = [tenant.clone(), id(&session["id"])].concat();
    let expunged = json!(stored_event(world, organization).await);
    vec![
        ("GET /v1/events/{id}", id(&event)),
        ("DELETE /v1/events/{id}/data", id(&expunged)),
        ("POST /v1/events/{id}/replay", id(&event)),
        (
            "POST /v1/events/{id}/deliveries/{endpoint_id}/retry",
            id_and(&event, "path.endpoint_id", &endpoint),
        ),
        ("POST /v1/tenants/{uid}/portal-sessions", tenant.clone()),
        ("DELETE /v1/tenants/{uid}/portal-sessions", tenant),
        ("DELETE /v1/tenants/{uid}/portal-sessions/{id}", session),
        // They go on for a minute and a half otherwise.
        ("GET /v1/stats", vec![("query.seconds", json!(0))]),
        ("GET /v1/tail", vec![("query.seconds", json!(0))]),
        ("DELETE /v1/keys/{id}", id(&key(world, organization).await)),
        ("POST /v1/keys/{id}/rotate", id(&key(world, organization).await)),
    ]
}

/// Things for the paths of endpoints, likewise.
pub(super) async fn endpoints(world: &mut World, organization: &Organization) -> Fixed {
    let (endpoint, _) = delivered(world, organization).await;
    let create = async |body: Value| {
        let made = post(world, organization, "/v1/endpoints", &body).await;
        made["id"].clone()
    };
    let spare = async || create(json!({"url": "http://127.0.0.1:9/", "event_types": ["never.sent"]})).await;
    let schemes = json!([{"scheme": "standard"}, {"scheme": "ed25519"}]);
    let signing =
        create(json!({"url": "http://127.0.0.1:9/", "event_types": ["never.sent"], "signatures": schemes}));
    let signing = signing.await;
    let pulled = create(json!({"kind": "pull"})).await;
    let recover = format!(
        "/v1/endpoints/{}/recover",
        endpoint.as_str().expect("an id is text")
    );
    let recovery = post(
        world,
        organization,
        &recover,
        &json!({"since": "2026-01-01T00:00:00Z"}),
    )
    .await;
    let recovery = id_and(&endpoint, "path.recovery_id", &recovery["id"]);
    vec![
        ("GET /v1/endpoints/{id}", id(&endpoint)),
        ("PATCH /v1/endpoints/{id}", id(&spare().await)),
        ("DELETE /v1/endpoints/{id}", id(&spare().await)),
        ("POST /v1/endpoints/{id}/rotate-secret", id(&spare().await)),
        ("GET /v1/endpoints/{id}/public-key", id(&signing)),
        ("POST /v1/endpoints/{id}/rotate-key", id(&signing)),
        ("POST /v1/endpoints/{id}/test", id(&endpoint)),
        ("POST /v1/endpoints/{id}/filter/preview", id(&endpoint)),
        ("GET /v1/endpoints/{id}/stats", id(&endpoint)),
        ("GET /v1/endpoints/{id}/deliveries", id(&endpoint)),
        ("GET /v1/endpoints/{id}/deliveries/summary", id(&endpoint)),
        ("POST /v1/endpoints/{id}/recover", id(&spare().await)),
        ("GET /v1/endpoints/{id}/recoveries", id(&endpoint)),
        (
            "GET /v1/endpoints/{id}/recoveries/{recovery_id}",
            recovery.clone(),
        ),
        ("DELETE /v1/endpoints/{id}/recoveries/{recovery_id}", recovery),
        // A pull of an endpoint without deliveries waits for as long as it may.
        (
            "POST /v1/endpoints/{id}/pull",
            id_and(&pulled, "body.wait_seconds", &json!(0)),
        ),
        ("POST /v1/endpoints/{id}/ack", id(&pulled)),
        ("POST /v1/endpoints/{id}/nack", id(&pulled)),
        ("POST /v1/endpoints/{id}/extend", id(&pulled)),
    ]
}

/// Things for the paths of the Zapier Triggers API.
pub(super) async fn zapier(world: &World, organization: &Organization) -> Fixed {
    let event = stored_event(world, organization).await;
    vec![("POST /api/ack/{id}", vec![("path.id", json!(event))])]
}

/// Things for the paths of the admin API.
pub(super) async fn admin(world: &World) -> Fixed {
    let (organization, _) = unlimited(world).await;
    let key = key(world, &organization).await;
    let event = stored_event(world, &organization).await;
    let org_id = || vec![("path.org_id", json!(organization.id))];
    let deleted = vec![("path.org_id", json!(world.organization().await.id))];
    vec![
        ("GET /admin/v1/organizations/{org_id}", org_id()),
        ("PATCH /admin/v1/organizations/{org_id}", org_id()),
        ("DELETE /admin/v1/organizations/{org_id}", deleted),
        ("POST /admin/v1/organizations/{org_id}/keys", org_id()),
        ("GET /admin/v1/organizations/{org_id}/keys", org_id()),
        (
            "DELETE /admin/v1/organizations/{org_id}/keys/{id}",
            vec![("path.org_id", json!(organization.id)), ("path.id", key)],
        ),
        ("POST /admin/v1/organizations/{org_id}/endpoints", org_id()),
        (
            "GET /admin/v1/events/{id}/explain",
            vec![("path.id", json!(event))],
        ),
    ]
}
