//! What web pages may do, and what every answer says to a browser.

use reqwest::{Method, Response};

use crate::setup;

/// What a page needs that sends an event with its key, or changes an endpoint.
const ASKED: [&str; 7] = [
    "authorization",
    "ce-source",
    "content-type",
    "idempotency-key",
    "if-match",
    "traceparent",
    "x-api-key",
];

async fn preflight(world: &e2e::World, origin: &str) -> Response {
    let request = world.http().request(Method::OPTIONS, world.url("/v1/events"));
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "POST");
    request
        .header("access-control-request-headers", ASKED.join(","))
        .send()
        .await
        .expect("ingest-api answers")
}

fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
    response
        .headers()
        .get(name)
        .map(|value| value.to_str().expect("it is ASCII"))
}

#[tokio::test]
async fn no_page_of_another_origin_may_call_the_api_unless_told_so() {
    let world = setup().replicas(1, 0).start().await;
    let answer = preflight(&world, "https://app.example.com").await;
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    let answer = world
        .http()
        .get(world.url("/v1/events"))
        .header("origin", "https://app.example.com")
        .send()
        .await;
    let answer = answer.unwrap();
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    assert_eq!(header(&answer, "vary"), None);
    assert_eq!(header(&answer, "x-content-type-options"), Some("nosniff"));
    assert_eq!(header(&answer, "cache-control"), Some("no-store"));
    assert_eq!(header(&answer, "x-frame-options"), Some("DENY"));
    world.finish().await;
}

#[tokio::test]
async fn pages_of_the_configured_origins_may_call_the_api_and_no_others() {
    let origins = "https://app.example.com,http://localhost:3000";
    let world = setup()
        .replicas(1, 0)
        .ingest_env("CORS_ORIGINS", origins)
        .start()
        .await;
    for origin in origins.split(',') {
        let answer = preflight(&world, origin).await;
        assert_eq!(answer.status(), 200);
        assert_eq!(header(&answer, "access-control-allow-origin"), Some(origin));
        // `*` would not cover `Authorization`, and with it nothing else either.
        let allowed = header(&answer, "access-control-allow-headers").expect("headers are allowed");
        let allowed: Vec<_> = allowed.split(',').map(str::trim).collect();
        assert_eq!(
            ASKED.map(|asked| allowed.contains(&asked)),
            [true; 7],
            "{allowed:?}"
        );
    }
    let answer = preflight(&world, "https://evil.example.com").await;
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    world.finish().await;
}

#[tokio::test]
async fn a_sender_of_cloudevents_asks_for_leave_where_pages_may_call_the_api() {
    for origins in ["*", "https://app.example.com"] {
        let setup = setup().replicas(1, 0).ingest_env("CORS_ORIGINS", origins);
        let world = setup.start().await;
        for path in ["/v1/events", "/v1/events/batch"] {
            let request = world.http().request(Method::OPTIONS, world.url(path));
            let request = request
                .header("webhook-request-origin", "sender.example.com")
                .header("origin", "https://app.example.com");
            let answer = request.send().await.expect("ingest-api answers");
            assert_eq!(answer.status(), 200);
            assert_eq!(
                header(&answer, "webhook-allowed-origin"),
                Some("sender.example.com")
            );
            assert_eq!(header(&answer, "allow"), Some("POST"));
        }
        world.finish().await;
    }
}
