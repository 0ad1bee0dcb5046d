//! What web pages may do, and what every answer says to a browser.

use reqwest::{Method, Response};

use crate::setup;

async fn preflight(world: &e2e::World, origin: &str) -> Response {
    let request = world.http().request(Method::OPTIONS, world.url("/v1/events"));
    let request = request
        .header("origin", origin)
        .header("access-control-request-method", "POST");
    request
        .header("access-control-request-headers", "x-api-key")
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
    }
    let answer = preflight(&world, "https://evil.example.com").await;
    assert_eq!(header(&answer, "access-control-allow-origin"), None);
    world.finish().await;
}
