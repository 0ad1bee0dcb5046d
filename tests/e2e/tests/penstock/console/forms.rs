//! What people set in the form of an endpoint, and what becomes of it.

use data_encoding::BASE64;
use e2e::{Event, Organization, Receiver, World};
use reqwest::Method;
use reqwest::header::{HeaderMap, HeaderName};
use serde_json::{Value, json};

use super::browser::Browser;
use crate::calls::{self, request};
use crate::setup;

/// The headers of the webhook of one more event, which is always the same.
async fn sent(world: &World, organization: &Organization, receiver: &Receiver) -> HeaderMap {
    let event = Event::new("a", r#"{"same":1}"#);
    let id = world.producer(organization).send(&event).await;
    world.settle().await;
    let webhook = receiver.webhooks_of(id).into_iter().next();
    webhook.expect("it arrived").headers
}

/// The names of a webhook's headers, but for those of HTTP itself and of traces, which the console leaves out.
fn names(headers: &HeaderMap) -> String {
    let left_out = ["host", "content-length", "traceparent"];
    let names = headers.keys().map(HeaderName::as_str);
    let mut names: Vec<_> = names.filter(|name| !left_out.contains(name)).collect();
    names.sort_unstable();
    names.join(" ")
}

/// The schemes of an endpoint, each with its header.
fn schemes(endpoint: &Value) -> Value {
    let signatures = endpoint["signatures"].as_array().expect("it is a list");
    signatures
        .iter()
        .map(|signature| json!([signature["scheme"], signature["header"]]))
        .collect()
}

async fn shown(world: &World, organization: &Organization, id: &str) -> Value {
    let path = format!("/v1/endpoints/{id}");
    calls::json(request(world, 0, Method::GET, &path, &organization.key)).await
}

#[tokio::test]
async fn people_choose_how_requests_are_signed_and_see_no_secret_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let path = receiver.new_path();
    let (base, address) = (world.url(""), receiver.url(&path));
    let arguments = [&*base, &organization.key, &address];
    let Some(mut browser) = Browser::run("forms.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    let made = browser.hear("made").await;
    let (id, secret) = made.split_once(' ').expect("an id and a secret");
    receiver.register(path, id.parse().expect("an id"), secret);
    let endpoint = shown(&world, &organization, id).await;
    let fields = ["method", "format", "all_tenants", "header_names", "auth"].map(|name| &endpoint[name]);
    assert_eq!(
        json!(fields),
        json!(["PUT", "raw", true, ["X-Shop"], {"kind": "basic"}])
    );
    let github = json!(["hmac", "X-Hub-Signature-256"]);
    assert_eq!(schemes(&endpoint), json!([["standard", null], github]));
    let first = sent(&world, &organization, &receiver).await;
    let basic = format!("Basic {}", BASE64.encode(b"shop:canary-password"));
    assert_eq!(first["authorization"], basic);
    assert_eq!(first["x-shop"], "canary-header");
    browser.say("go on").await;

    browser.hear("changed").await;
    let endpoint = shown(&world, &organization, id).await;
    let all = json!([["standard", null], github, ["ed25519", null]]);
    assert_eq!(schemes(&endpoint), all);
    let until = endpoint["signatures"][1]["until"].as_str().unwrap_or_default();
    assert!(until.starts_with("2040-05-0"), "{endpoint}");
    let fields = ["ordered", "on_exhausted", "header_names", "format"].map(|name| &endpoint[name]);
    assert_eq!(json!(fields), json!([true, "block", ["X-Shop"], "raw"]));
    let retry = ["attempts", "initial_seconds"].map(|name| &endpoint["retry"][name]);
    assert_eq!(json!(retry), json!([3, 0.5]));
    let second = sent(&world, &organization, &receiver).await;
    assert_eq!(second["authorization"], "Bearer canary-token");
    assert_eq!(second["x-shop"], "canary-header", "what is not shown is kept");
    let github = "x-hub-signature-256";
    assert_eq!(
        second[github], first[github],
        "the same text, and the secret is kept"
    );
    let signature = second["webhook-signature"].to_str().expect("it is ASCII");
    assert!(signature.contains("v1a,"), "{signature}");
    browser.say(&names(&second)).await;

    browser.hear("removed").await;
    let endpoint = shown(&world, &organization, id).await;
    assert_eq!(endpoint["auth"], Value::Null);
    assert_eq!(schemes(&endpoint), all);
    let third = sent(&world, &organization, &receiver).await;
    assert!(!third.contains_key("authorization"), "{third:?}");
    browser.say("go on").await;
    browser.finish().await;
    world.finish().await;
}
