//! Passwords, tokens and certificates that receivers ask for, as their owner gave them.

mod certificates;
mod tokens;
mod without_tls;

use e2e::{Event, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{call, json};
use crate::capture::Capture;
use crate::setup;

/// An endpoint with credentials whose retries come soon, and which waits for a busy machine.
async fn endpoint(world: &World, organization: &e2e::Organization, url: &str, auth: &Value) -> String {
    let retry = json!({"initial_seconds": 0.1, "factor": 1, "max_seconds": 1});
    let fields = json!({"auth": auth, "timeout_ms": 20_000, "retry": retry});
    let (endpoint, _) = world.endpoint_at(organization, url, fields).await;
    endpoint.id.to_string()
}

#[tokio::test]
async fn a_password_and_a_token_reach_the_receiver_and_nobody_else() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let capture = Capture::start().await;
    let basic = json!({"kind": "basic", "username": "Aladdin", "password": "open sesame"});
    let id = endpoint(&world, &organization, &capture.url(), &basic).await;
    let producer = world.producer(&organization);
    producer.send(&Event::new("a", "1")).await;
    let webhook = capture.wait_for(1).await.remove(0);
    assert_eq!(
        webhook.header("authorization"),
        "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    );
    let path = format!("/{id}");
    let change = |auth: Value| call(&world, &organization, Method::PATCH, &path).json(&json!({"auth": auth}));
    let shown = json(change(json!({"kind": "bearer", "token": "mF_9.B5f-4.1JqM"}))).await;
    assert_eq!(shown["auth"], json!({"kind": "bearer"}));
    producer.send(&Event::new("a", "2")).await;
    let webhook = capture.wait_for(2).await.remove(1);
    assert_eq!(webhook.header("authorization"), "Bearer mF_9.B5f-4.1JqM");
    assert_eq!(json(change(Value::Null)).await["auth"], Value::Null);
    producer.send(&Event::new("a", "3")).await;
    let webhook = capture.wait_for(3).await.remove(2);
    assert!(!webhook.headers.contains_key("authorization"));
    world.finish().await;
}
