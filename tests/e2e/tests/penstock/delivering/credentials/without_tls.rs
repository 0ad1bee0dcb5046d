//! A client certificate is shown over TLS, or not at all.

use reqwest::Method;
use serde_json::{Value, json};

use super::certificates::{authority, in_days, made, mtls};
use crate::calls::{answer, call, json, request, text, wrong_fields};
use crate::world;

#[tokio::test]
async fn a_client_certificate_and_a_url_without_tls_come_together_in_no_order() {
    let world = world().await;
    let owner = world.organization().await;
    let clients = authority();
    let certificate = mtls(&made(&clients, "client", in_days(30)), &clients);
    let configure = |url: &str| {
        let configure = request(&world, 0, Method::POST, "/api/webhook/config", &owner.key);
        configure.json(&json!({"webhook_url": url}))
    };
    let webhook = json(configure("http://example.com/")).await;
    let path = format!("/{}", text(&webhook, "endpoint_id"));
    let change = |fields: Value| call(&world, &owner, Method::PATCH, &path).json(&fields);
    let needs_https = "auth.kind: `mtls` needs an https URL";
    let auth = json!({"auth": certificate});
    assert_eq!(wrong_fields(change(auth.clone())).await, needs_https);
    json(change(json!({"url": "https://example.com/"}))).await;
    json(change(auth)).await;
    let plain = json!({"url": "http://example.com/"});
    assert_eq!(wrong_fields(change(plain)).await, needs_https);
    insta::assert_snapshot!(answer(configure("http://example.com/")).await, @r#"
    422 Unprocessable Entity
    content-type: application/json

    {"error":"webhook_url: must be https: the webhook has a client certificate"}
    "#);
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    assert_eq!(shown["url"], "https://example.com/");
    json(configure("HTTPS://example.com/other")).await;
    json(change(json!({"auth": null}))).await;
    json(configure("http://example.com/")).await;
    world.finish().await;
}
