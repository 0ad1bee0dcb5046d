//! Generated requests: schemathesis calls every operation of the OpenAPI document and checks every answer against it.
//!
//! An operation that only refuses is not tested, and schemathesis says so in its warnings. So the tests make the things
//! that paths name, and fail on its warnings.

mod run;
mod things;

use e2e::World;
use reqwest::Method;

use self::run::{Fixed, schemathesis};
use self::things::{admin, endpoints, events_and_keys, unlimited, zapier};
use crate::calls::{request, status};
use crate::{setup, world};

/// The paths of endpoints.
const ENDPOINTS: &str = "^/v1/endpoints";

/// The operation that wants a portal's token, and has nothing to show to a key.
const PORTAL_SESSION: &str = "GET /v1/portal/session";

/// The operation that ends the key of its request.
const ROTATE: &str = "POST /api/keys/rotate";

/// Ends a world with hundreds of endpoints whose hosts nobody can look up: no delivery waits for them.
async fn finish(world: World) {
    world.execute("update endpoints set status = 'disabled'").await;
    world.finish().await;
}

#[tokio::test]
async fn every_operation_on_events_and_keys_accepts_generated_requests_and_answers_as_the_document_describes()
{
    let mut world = setup().start().await;
    let (organization, key) = unlimited(&world).await;
    let fixed = events_and_keys(&mut world, &organization).await;
    schemathesis(
        &world,
        &key,
        &fixed,
        &[
            "--include-path-regex",
            "^/v1",
            "--exclude-path-regex",
            ENDPOINTS,
            "--exclude-name",
            PORTAL_SESSION,
        ],
    )
    .await;
    finish(world).await;
}

#[tokio::test]
async fn every_operation_on_endpoints_does_so_too() {
    let mut world = setup().start().await;
    let (organization, key) = unlimited(&world).await;
    let fixed = endpoints(&mut world, &organization).await;
    schemathesis(&world, &key, &fixed, &["--include-path-regex", ENDPOINTS]).await;
    finish(world).await;
}

#[tokio::test]
async fn every_operation_of_the_zapier_api_does_so_too() {
    let world = setup().ingest_env("ALLOW_SIGNUP", "true").start().await;
    let (organization, key) = unlimited(&world).await;
    let fixed = zapier(&world, &organization).await;
    let part = ["--include-path-regex", "^/(api|health)", "--exclude-name", ROTATE];
    schemathesis(&world, &key, &fixed, &part).await;
    finish(world).await;
}

#[tokio::test]
async fn every_operation_of_the_admin_api_does_so_too() {
    let world = setup().start().await;
    let token = format!("Authorization: Bearer {}", world.stack().admin_token());
    let fixed = admin(&world).await;
    schemathesis(&world, &token, &fixed, &["--include-path-regex", "^/admin"]).await;
    finish(world).await;
}

#[tokio::test]
async fn the_operation_that_ends_its_key_accepts_a_request_and_then_refuses_as_the_document_describes() {
    let world = world().await;
    let (organization, header) = unlimited(&world).await;
    schemathesis(&world, &header, &Fixed::new(), &["--include-name", ROTATE]).await;
    let list = request(&world, 0, Method::GET, "/v1/events", &organization.key);
    assert_eq!(status(list).await, 401, "the key was replaced");
    world.finish().await;
}
