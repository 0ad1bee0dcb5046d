//! What can be read, and is still more than the tables or the memory hold.

use e2e::{Organization, World};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::setup;

/// The last millisecond that a date holds, as an id without a key would tell it.
const LAST_ID: &str = "e677d21f-dbff-7000-8000-000000000000";

/// Times that RFC 3339 knows and UTC's years do not: the first after 9999, the second before 0.
const BEYOND: [&str; 2] = ["9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00%2B23:59"];

async fn world() -> (World, Organization) {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    (world, organization)
}

fn request(world: &World, organization: &Organization, method: Method, path: &str) -> RequestBuilder {
    let request = world.http().request(method, world.url(path));
    request.bearer_auth(&organization.key)
}

async fn answer(request: RequestBuilder) -> (u16, Value) {
    let response = request.send().await.expect("ingest-api answers");
    let status = response.status().as_u16();
    (status, response.json().await.unwrap_or_default())
}

#[tokio::test]
async fn the_last_id_that_tells_a_time_names_no_event() {
    let (world, organization) = world().await;
    let event = format!("/v1/events/{LAST_ID}");
    for (method, path) in [
        (Method::GET, event.clone()),
        (Method::DELETE, format!("{event}/data")),
        (Method::POST, format!("{event}/replay")),
        (Method::POST, format!("{event}/deliveries/{LAST_ID}/retry")),
        (Method::POST, format!("/api/ack/{LAST_ID}")),
    ] {
        let (status, _) = answer(request(&world, &organization, method, &path)).await;
        assert_eq!(status, 404, "{path}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_time_that_is_none_in_utc_is_refused_by_its_field() {
    let (world, organization) = world().await;
    let post = request(&world, &organization, Method::POST, "/v1/endpoints");
    let (_, endpoint) = answer(post.json(&json!({"kind": "pull"}))).await;
    let recover = format!("/v1/endpoints/{}/recover", endpoint["id"].as_str().unwrap());
    for time in BEYOND {
        for field in ["from", "to"] {
            let path = format!("/v1/events?{field}={time}");
            let (status, problem) = answer(request(&world, &organization, Method::GET, &path)).await;
            assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)));
        }
        let time = time.replace("%2B", "+");
        for (path, field, body) in [
            (
                "/v1/keys",
                "expires_at",
                json!({"name": "k", "scopes": ["ingest"]}),
            ),
            (&recover, "since", json!({})),
            (&recover, "until", json!({"since": "2026-01-01T00:00:00Z"})),
        ] {
            let mut body = body;
            body[field] = json!(time);
            let post = request(&world, &organization, Method::POST, path).json(&body);
            let (status, problem) = answer(post).await;
            assert_eq!((status, &problem["errors"][0]["field"]), (422, &json!(field)));
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_time_in_another_zone_is_that_time() {
    let (world, organization) = world().await;
    let body = json!({"name": "k", "scopes": ["ingest"], "expires_at": "2099-12-31T23:59:59.5-23:59"});
    let post = request(&world, &organization, Method::POST, "/v1/keys").json(&body);
    let (status, key) = answer(post).await;
    assert_eq!(
        (status, &key["expires_at"]),
        (201, &json!("2100-01-01T23:58:59.500000Z"))
    );
    world.finish().await;
}

#[tokio::test]
async fn an_event_with_thousands_of_wrong_fields_is_told_of_the_first_ones() {
    let (world, organization) = world().await;
    let fields: Vec<_> = (0..10_000).map(|number| format!("\"x{number:05}\":1")).collect();
    let own = format!("{{{}}}", fields.join(","));
    for (content_type, body, all) in [
        ("application/json", own.clone(), 10_002),
        ("application/cloudevents+json", own.replace("\"x", "\"X"), 10_004),
    ] {
        let post = request(&world, &organization, Method::POST, "/v1/events");
        let (status, problem) = answer(post.header("content-type", content_type).body(body)).await;
        let errors = problem["errors"].as_array().expect("there are wrong fields");
        assert_eq!((status, errors.len()), (422, 21), "{content_type}");
        let last = json!({"field": "body", "detail": format!("has {} more wrong fields", all - 20)});
        assert_eq!(errors[20], last);
    }
    world.finish().await;
}
