//! What a session sees and does: what is its tenant's, and what its capabilities say.

use e2e::{Event, Organization};
use reqwest::Method;
use serde_json::{Value, json};

use super::{session, tenant};
use crate::calls::{json as read, request, status, text};
use crate::http::openapi::{call, document, operations, with_ids};
use crate::{setup, world};

/// What a session with all capabilities may do.
const ALLOWED: [&str; 27] = [
    "get /v1/portal/session",
    "get /v1/stats",
    "get /v1/tail",
    "get /v1/dead-deliveries",
    "get /v1/events",
    "get /v1/events/{id}",
    "get /v1/endpoints",
    "get /v1/endpoints/{id}",
    "get /v1/endpoints/{id}/public-key",
    "get /v1/endpoints/{id}/stats",
    "get /v1/endpoints/{id}/deliveries",
    "get /v1/endpoints/{id}/deliveries/summary",
    "get /v1/endpoints/{id}/recoveries",
    "get /v1/endpoints/{id}/recoveries/{recovery_id}",
    "post /v1/endpoints",
    "patch /v1/endpoints/{id}",
    "delete /v1/endpoints/{id}",
    "post /v1/endpoints/{id}/test",
    "post /v1/endpoints/{id}/rotate-secret",
    "post /v1/endpoints/{id}/rotate-key",
    "post /v1/endpoints/{id}/filter/preview",
    "post /v1/filters/test",
    "post /v1/templates/test",
    "post /v1/events/{id}/replay",
    "post /v1/events/{id}/deliveries/{endpoint_id}/retry",
    "post /v1/endpoints/{id}/recover",
    "delete /v1/endpoints/{id}/recoveries/{recovery_id}",
];

fn everything() -> Value {
    json!({"capabilities": ["view", "manage_endpoints", "view_secrets", "replay"]})
}

/// The session in the organisation's place.
fn as_caller(organization: &Organization, session: &Value) -> Organization {
    Organization {
        id: organization.id,
        key: text(session, "token").to_owned(),
    }
}

#[tokio::test]
async fn a_session_sees_its_tenant_and_no_route_shows_it_another() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let (mut events, mut endpoints) = (Vec::new(), Vec::new());
    for uid in ["acme", "globex"] {
        tenant(&world, &organization, uid).await;
        endpoints.push(
            world
                .endpoint_with(&organization, &receiver, json!({"tenant": uid}))
                .await
                .id
                .to_string(),
        );
        let event = Event {
            tenant: Some(uid.to_owned()),
            ..Event::new("a", "1")
        };
        events.push(world.producer(&organization).send(&event).await.to_string());
    }
    world.settle().await;
    let made = session(&world, &organization, "acme", everything()).await;
    let caller = as_caller(&organization, &made);
    for (path, own) in [("/v1/events", &events[0]), ("/v1/endpoints", &endpoints[0])] {
        let page = read(request(&world, 0, Method::GET, path, &caller.key)).await;
        let ids: Vec<_> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|each| text(each, "id"))
            .collect();
        assert_eq!(ids, [own], "{path}");
    }
    let shown = read(request(&world, 0, Method::GET, "/v1/portal/session", &caller.key)).await;
    assert_eq!(
        (text(&shown, "tenant"), text(&shown, "id")),
        ("acme", text(&made, "id"))
    );

    let foreign = [
        events[1].clone(),
        endpoints[1].clone(),
        organization.key[8..24].to_owned(),
        "globex".to_owned(),
    ];
    let document = document(&world).await;
    let mut refused = Vec::new();
    for (path, method, operation) in operations(&document) {
        if !path.starts_with("/v1/") && !path.starts_with("/api/") {
            continue;
        }
        let allowed = ALLOWED.contains(&&*format!("{method} {path}"));
        for path in with_ids(path, &foreign) {
            let status = call(&world, &caller, method, &path, operation).await;
            assert_eq!(status, if allowed { 404 } else { 403 }, "{method} {path}");
        }
        if !allowed && !path.contains('{') {
            refused.push(format!("{method} {path}"));
            assert_eq!(
                call(&world, &caller, method, path, operation).await,
                403,
                "{method} {path}"
            );
        }
    }
    assert!(
        refused.contains(&"post /v1/events".to_owned()) && refused.contains(&"get /v1/keys".to_owned()),
        "{refused:?}"
    );
    let admin = request(&world, 0, Method::GET, "/admin/v1/organizations", &caller.key);
    assert_eq!(status(admin).await, 401);
    world.finish().await;
}

#[tokio::test]
async fn a_session_may_do_what_its_capabilities_say() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    tenant(&world, &organization, "acme").await;
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "acme"}))
        .await
        .id;
    let event = Event {
        tenant: Some("acme".to_owned()),
        ..Event::new("a", "1")
    };
    let event = world.producer(&organization).send(&event).await;
    world.settle().await;
    let (rotate, replay) = (
        format!("/v1/endpoints/{endpoint}/rotate-secret"),
        format!("/v1/events/{event}/replay"),
    );
    let change = format!("/v1/endpoints/{endpoint}");
    let tries = [
        (Method::GET, "/v1/events", None),
        (Method::PATCH, &*change, Some(json!({"description": "x"}))),
        (Method::POST, &*rotate, Some(json!({}))),
        (Method::POST, &*replay, Some(json!({}))),
    ];
    for (capabilities, expected) in [
        (json!(["view"]), [200, 403, 403, 403]),
        (json!(["manage_endpoints"]), [403, 200, 403, 403]),
        (
            json!(["view", "manage_endpoints", "view_secrets"]),
            [200, 200, 201, 403],
        ),
        (json!(["replay"]), [403, 403, 403, 202]),
    ] {
        let made = session(
            &world,
            &organization,
            "acme",
            json!({"capabilities": capabilities}),
        )
        .await;
        let mut answers = Vec::new();
        for (method, path, body) in &tries {
            let request = request(&world, 0, method.clone(), path, text(&made, "token"));
            let request = match body {
                Some(body) => request.json(body),
                None => request,
            };
            answers.push(status(request).await.as_u16());
        }
        assert_eq!(answers, expected, "{capabilities}");
        let log = format!("/admin/v1/audit-log?actor=portal:{}", text(&made, "id"));
        let log = read(request(&world, 0, Method::GET, &log, world.stack().admin_token())).await;
        // The first change of the description, and each rotation.
        let entries = log["data"].as_array().unwrap();
        assert!(
            entries.iter().all(|entry| entry["subject"] == json!(endpoint)),
            "{log}"
        );
        assert_eq!(entries.is_empty(), expected[1] != 200, "{log}");
    }
    world.settle().await;
    // The rotation changed the secret that the receiver checks the replay with: both stay valid for a day.
    world.finish().await;
}

#[tokio::test]
async fn an_endpoint_of_a_portal_chooses_among_the_sessions_event_types() {
    let world = world().await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme").await;
    let mut body = everything();
    body["event_types"] = json!(["order.*", "invoice.paid"]);
    let made = session(&world, &organization, "acme", body).await;
    let token = text(&made, "token");
    let chosen = |types: Value| {
        let body = json!({"kind": "pull", "event_types": types});
        status(request(&world, 0, Method::POST, "/v1/endpoints", token).json(&body))
    };
    for types in [
        json!(["user.made"]),
        json!(["*"]),
        json!([]),
        json!(["order.a", "b"]),
    ] {
        assert_eq!(chosen(types.clone()).await, 422, "{types}");
    }
    assert_eq!(chosen(json!(["order.created"])).await, 201);
    let body = json!({"kind": "pull", "tenant": "acme"});
    let every = read(request(&world, 0, Method::POST, "/v1/endpoints", &organization.key).json(&body)).await;
    let path = format!("/v1/endpoints/{}", text(&every, "id"));
    let change = |body: Value| status(request(&world, 0, Method::PATCH, &path, token).json(&body));
    assert_eq!(change(json!({"description": "kept"})).await, 200);
    assert_eq!(change(json!({"event_types": ["user.*"]})).await, 422);
    assert_eq!(change(json!({"event_types": ["invoice.paid"]})).await, 200);
    assert_eq!(change(json!({"event_types": null})).await, 422);
    world.finish().await;
}
