//! Who may do what: keys with scopes, and admin tokens.

use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::calls::{answer, json, request, same_answer, status};
use crate::{setup, world};

#[tokio::test]
async fn only_the_admin_token_opens_the_admin_api() {
    let world = world().await;
    let organization = world.organization().await;
    let paths = [
        "/admin/v1/organizations".to_owned(),
        format!("/admin/v1/organizations/{}/keys", organization.id),
        format!("/admin/v1/organizations/{}/endpoints", organization.id),
    ];
    let requests = paths.iter().flat_map(|path| {
        let post = || world.http().post(world.url(path)).json(&json!({"name": "x"}));
        [
            post(),
            post().bearer_auth(&organization.key),
            post().bearer_auth("x".repeat(32)),
        ]
    });
    insta::assert_snapshot!(same_answer(requests).await, @r#"
    401 Unauthorized
    content-type: application/problem+json
    www-authenticate: Bearer

    {"type":"about:blank","title":"Unauthorized","status":401,"detail":"send the admin token as `Authorization: Bearer …`"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn admin_tokens_have_names_and_may_do_what_their_scope_says() {
    let (reader, manager) = ("r".repeat(32), "m".repeat(32));
    let tokens = format!("look:read:{reader},ops:manage:{manager}");
    let world = setup()
        .replicas(1, 0)
        .ingest_env("ADMIN_TOKENS", &tokens)
        .start()
        .await;
    let path = "/admin/v1/organizations";
    for token in [&reader, &manager, world.stack().admin_token()] {
        json(request(&world, 0, Method::GET, path, token)).await;
    }
    let make = |token: &str| {
        let request = request(&world, 0, Method::POST, path, token);
        request.json(&json!({"name": "x"}))
    };
    insta::assert_snapshot!(answer(make(&reader)).await, @r#"
    403 Forbidden
    content-type: application/problem+json

    {"type":"about:blank","title":"Forbidden","status":403,"detail":"the admin token lacks the scope `manage`"}
    "#);
    for token in [&manager, world.stack().admin_token()] {
        assert_eq!(status(make(token)).await, StatusCode::CREATED);
    }
    assert_eq!(status(make(&"x".repeat(32))).await, StatusCode::UNAUTHORIZED);
    world.finish().await;
}

#[tokio::test]
async fn what_the_admin_api_cannot_create_is_refused_with_the_wrong_field() {
    let world = world().await;
    let organization = world.organization().await;
    let post = |path: &str, body: serde_json::Value| {
        let request = world
            .http()
            .post(world.url(&format!("/admin/v1/organizations{path}")));
        request.bearer_auth(world.stack().admin_token()).json(&body)
    };
    let endpoints = format!("/{}/endpoints", organization.id);
    insta::assert_snapshot!(answer(post("", json!({"name": "x", "tier": "gold"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: tier","errors":[{"field":"tier","detail":"unknown variant `gold`, expected one of `free`, `pro`, `business`, `enterprise` at line 1 column 25"}]}
    "#);
    insta::assert_snapshot!(answer(post(&endpoints, json!({"url": "http://10.0.0.1/", "timeout_ms": 1}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, timeout_ms","errors":[{"field":"url","detail":"10.0.0.1 is not a public address"},{"field":"timeout_ms","detail":"must be 100 to 30000"}]}
    "#);
    let nobody = "/01890a5d-ac96-774b-bcce-b302099a8057/keys";
    insta::assert_snapshot!(answer(post(nobody, json!({"name": "x"}))).await, @r#"
    404 Not Found
    content-type: application/problem+json

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here under this path"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn a_key_opens_only_what_its_scopes_name() {
    let world = world().await;
    let organization = world.organization().await;
    let key_with = async |scope: &str| {
        let path = format!("/admin/v1/organizations/{}/keys", organization.id);
        let request = world
            .http()
            .post(world.url(&path))
            .bearer_auth(world.stack().admin_token());
        let answer = request
            .json(&json!({"name": "x", "scopes": [scope]}))
            .send()
            .await
            .unwrap();
        let created: serde_json::Value = answer.json().await.unwrap();
        created["key"].as_str().unwrap().to_owned()
    };
    let list = world
        .http()
        .get(world.url("/v1/endpoints"))
        .bearer_auth(key_with("ingest").await);
    insta::assert_snapshot!(answer(list).await, @r#"
    403 Forbidden
    content-type: application/problem+json

    {"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key lacks the scope `manage`"}
    "#);
    let send = world
        .http()
        .post(world.url("/v1/events"))
        .bearer_auth(key_with("manage").await);
    insta::assert_snapshot!(answer(send.json(&json!({"type": "a", "data": 1}))).await, @r#"
    403 Forbidden
    content-type: application/problem+json

    {"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key lacks the scope `ingest`"}
    "#);
    world.finish().await;
}
