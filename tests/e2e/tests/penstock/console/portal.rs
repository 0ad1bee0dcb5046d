//! Portal sessions over HTTP: bound to their tenant and their capabilities, and over when they are ended.

use std::time::{Duration, Instant};

use e2e::{Event, Organization, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::calls::{self, json as read, request, status, text};
use crate::http::openapi::{call, document, operations, with_ids};
use crate::{setup, two_replicas, world};

/// How long an ended session may still be taken.
const WITHIN: Duration = Duration::from_secs(1);

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

/// Makes a tenant.
pub(super) async fn tenant(world: &World, organization: &Organization, uid: &str) {
    let path = format!("/v1/tenants/{uid}");
    read(request(world, 0, Method::PUT, &path, &organization.key).json(&json!({}))).await;
}

/// A session of a tenant's portal.
pub(super) async fn session(world: &World, organization: &Organization, uid: &str, body: Value) -> Value {
    let path = format!("/v1/tenants/{uid}/portal-sessions");
    read(request(world, 0, Method::POST, &path, &organization.key).json(&body)).await
}

fn everything() -> Value {
    json!({"capabilities": ["view", "manage_endpoints", "view_secrets", "replay"]})
}

async fn tried(world: &World, index: usize, token: &str) -> StatusCode {
    status(request(world, index, Method::GET, "/v1/events", token)).await
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

async fn until_over(world: &World, token: &str) {
    let ended = Instant::now();
    for index in [0, 1] {
        until("the session to be over", async || {
            match tried(world, index, token).await {
                StatusCode::UNAUTHORIZED => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
    assert!(ended.elapsed() < WITHIN, "it took {:?}", ended.elapsed());
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

#[tokio::test]
async fn the_portals_page_names_those_that_may_embed_it() {
    let world = setup()
        .replicas(1, 0)
        .ingest_env("PUBLIC_URL", "https://events.example.com")
        .start()
        .await;
    let organization = world.organization().await;
    tenant(&world, &organization, "acme").await;
    let made = session(&world, &organization, "acme", json!({})).await;
    let (page, token) = text(&made, "url")
        .split_once("#token=")
        .expect("the token is in the fragment");
    assert_eq!(token, text(&made, "token"));
    let path = page
        .strip_prefix("https://events.example.com")
        .expect("the public address");
    let policy = async || {
        let answer = world.http().get(world.url(path)).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let header = answer.headers()["content-security-policy"]
            .to_str()
            .unwrap()
            .to_owned();
        (header, answer.text().await.unwrap())
    };
    let (header, _) = policy().await;
    assert!(
        header.ends_with("; frame-ancestors 'none'") && !header.contains("unsafe"),
        "{header}"
    );
    let put = |body: &Value| request(&world, 0, Method::PUT, "/v1/portal", &organization.key).json(body);
    for (field, wrong) in [
        (
            "origins[0]",
            json!({"origins": ["https://a.example; script-src *"]}),
        ),
        ("logo", json!({"logo": "data:text/html;base64,AAAA"})),
        ("primary_color", json!({"primary_color": "red"})),
    ] {
        let answer: Value = put(&wrong).send().await.unwrap().json().await.unwrap();
        assert_eq!(answer["errors"][0]["field"], field, "{answer}");
    }
    let logo = format!(
        "data:image/svg+xml;base64,{}",
        data_encoding::BASE64.encode(&vec![b' '; 64 * 1024])
    );
    let settings = json!({"name": "Acme", "origins": ["https://app.example.com", "http://127.0.0.1:3000"], "logo": logo});
    read(put(&settings)).await;
    let (header, page) = policy().await;
    assert!(
        header.ends_with("; frame-ancestors https://app.example.com http://127.0.0.1:3000"),
        "{header}"
    );
    assert!(page.contains(r#"content="https://app.example.com http://127.0.0.1:3000""#));
    let shown = read(request(&world, 0, Method::GET, "/v1/portal", &organization.key)).await;
    assert_eq!(shown["logo"], settings["logo"]);
    let log = "/admin/v1/audit-log?kind=portal";
    let log = read(request(&world, 0, Method::GET, log, world.stack().admin_token())).await;
    let entry = &log["data"][0];
    assert_eq!(
        (&entry["actor"], &entry["action"], &entry["subject"]),
        (
            &json!(format!("key:{}", &organization.key[8..24])),
            &json!("made"),
            &json!(organization.id)
        )
    );
    assert_eq!(
        (&entry["after"]["origins"], &entry["after"]["logo"]),
        (&settings["origins"], &json!("(picture)"))
    );
    for unknown in [format!("{path}A"), "/portal/AAAA".to_owned()] {
        let answer = world.http().get(world.url(&unknown)).send().await.unwrap();
        assert_eq!(answer.status(), 404, "{unknown}");
    }
    world.finish().await;
}
