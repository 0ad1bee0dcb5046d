//! What a receiver gets: the headers, the body in each format, and signatures that hold through a rotation.

mod signatures;
mod templates;
mod template_turns;

use std::path::Path;
use std::process::Stdio;

use e2e::{Endpoint, Event, Setup, Webhook, World, new_event};
use serde_json::Value;
use shared::domain::event;
use shared::domain::headers::CustomHeaders;
use shared::secret::{SecretsKey, SigningSecret};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::programs::python;
use crate::setup;

/// 32 bytes in base64.
const SECRETS_KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn secrets_key() -> SecretsKey {
    SECRETS_KEY.parse().expect("it is a key")
}

fn setup_with_key() -> Setup {
    setup()
        .ingest_env("SECRETS_KEY", SECRETS_KEY)
        .worker_env("SECRETS_KEY", SECRETS_KEY)
}

async fn set_cloudevents(world: &World, endpoint: Endpoint) {
    let query = sqlx::query("update endpoints set format = 'cloudevents' where id = $1");
    let done = query.bind(endpoint.id).execute(world.database()).await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

/// The secret becomes `secret`, and the one before it stays valid for a minute, or has expired a minute ago.
async fn rotate(world: &World, endpoint: Endpoint, secret: &SigningSecret, expires_in_minutes: i32) {
    let query = sqlx::query(
        "update endpoints set previous_secret = secret, secret = $2,
                previous_secret_expires_at = now() + $3 * interval '1 minute' where id = $1",
    );
    let query = query
        .bind(endpoint.id)
        .bind(secret.seal(&secrets_key(), endpoint.id));
    let done = query.bind(expires_in_minutes).execute(world.database()).await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

fn header<'a>(webhook: &'a Webhook, name: &str) -> &'a str {
    webhook.headers[name].to_str().expect("headers are ASCII")
}

#[tokio::test]
async fn an_endpoints_own_headers_are_sent_beside_ours() {
    let mut world = setup_with_key().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let headers = CustomHeaders::from_iter([
        ("Authorization", "Bearer t"),
        ("X-Shop", "7"),
        ("User-Agent", "shop"),
    ]);
    let query = sqlx::query("update endpoints set headers = $2 where id = $1").bind(endpoint.id);
    let sealed = headers.seal(&secrets_key(), endpoint.id);
    query.bind(sealed).execute(world.database()).await.unwrap();
    let event = Event::new("a", "1");
    let request = world.producer(&organization).post_event(event.body());
    let traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let id = e2e::accepted(request.header("traceparent", traceparent).send().await.unwrap()).await;
    let webhooks = receiver.wait_for(1).await;
    let mut lines: Vec<_> = webhooks[0]
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    lines.sort();
    let text = lines.join("\n").replace(&id.to_string(), "[id]");
    let host = header(&webhooks[0], "host");
    let text = text
        .replace(host, "[host]")
        .replace(header(&webhooks[0], "webhook-timestamp"), "[now]")
        .replace(header(&webhooks[0], "webhook-signature"), "[signature]");
    // The body has the time in it, whose fraction of a second ends with its last digit that is not zero.
    let length = format!("content-length: {}", webhooks[0].body.len());
    let text = text.replace(&length, "content-length: [length of the body]");
    insta::assert_snapshot!(text, @r"
    accept: */*
    authorization: Bearer t
    content-length: [length of the body]
    content-type: application/json
    host: [host]
    traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01
    user-agent: shop
    webhook-id: [id]
    webhook-signature: [signature]
    webhook-timestamp: [now]
    x-shop: 7
    ");
    world.finish().await;
}

#[tokio::test]
async fn endpoints_get_the_same_event_in_the_format_that_each_asks_for() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    set_cloudevents(&world, endpoint).await;
    world.endpoint(&organization, &receiver).await;
    let event = Event::new("order.created", r#"{"n": 1e400}"#);
    let id = world.producer(&organization).send(&event).await;
    let webhooks = receiver.wait_for(2).await;
    let (cloudevents, standard): (Vec<_>, Vec<_>) = webhooks
        .iter()
        .partition(|webhook| webhook.endpoint == endpoint.id);
    assert_eq!(header(standard[0], "content-type"), "application/json");
    assert_eq!(
        header(cloudevents[0], "content-type"),
        "application/cloudevents+json"
    );
    let text = String::from_utf8(cloudevents[0].body.to_vec()).unwrap();
    let text = text
        .replace(&id.to_string(), "[id]")
        .replace(&organization.id.to_string(), "[organization]")
        .replace(standard[0].parse().timestamp, "[time]");
    insta::assert_snapshot!(
        text,
        @r#"{"datacontenttype":"application/json","id":"[id]","source":"urn:penstock:organization:[organization]","specversion":"1.0","time":"[time]","type":"order.created","data":{"n": 1e400}}"#
    );
    world.finish().await;
}

#[tokio::test]
async fn a_cloudevent_keeps_its_own_id_source_and_extensions() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    set_cloudevents(&world, endpoint).await;
    let sent = r#"{"specversion":"1.0","id":"17","source":"/shop","type":"order.created","region":"eu","data":{"n": 1}}"#;
    let request = world.producer(&organization).post("/v1/events").body(sent);
    let answer = request
        .header("content-type", "application/cloudevents+json")
        .send()
        .await;
    let id = e2e::accepted(answer.unwrap()).await;
    let webhook = receiver.wait_for(1).await.remove(0);
    assert_eq!(webhook.id, id, "`webhook-id` is ours");
    insta::assert_snapshot!(String::from_utf8(webhook.body.to_vec()).unwrap(), @r#"{"id":"17","region":"eu","source":"/shop","specversion":"1.0","type":"order.created","data":{"n": 1}}"#);
    world.finish().await;
}

#[tokio::test]
async fn an_ordering_key_is_the_partition_key_of_a_cloudevent_also_after_a_failed_attempt() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| e2e::Answer::status(if webhook.number == 1 { 500 } else { 204 }));
    let endpoint = world.endpoint(&organization, &receiver).await;
    set_cloudevents(&world, endpoint).await;
    let event = event::Event {
        ordering_key: Some("order-7"),
        ..new_event(organization.id, "order.paid", "1")
    };
    world.publish_events(&[event]).await;
    let webhooks = receiver.wait_for(2).await;
    // The first out of the stream, the second out of the table.
    assert_eq!(webhooks[0].body, webhooks[1].body);
    let body: Value = serde_json::from_slice(&webhooks[0].body).unwrap();
    assert_eq!(body["partitionkey"], "order-7");
    world.until_delivery_is(event.id, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn after_a_rotation_the_official_python_library_verifies_with_either_secret_until_the_old_one_expires()
{
    let packages = python::packages(&["standardwebhooks==1.1.0"]).await;
    let mut world = setup_with_key().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let event = Event::new("a", r#"{"text":"größe \u0000 1e400", "n":1e400}"#);
    let [first, second, third] = [(); 3].map(|()| SigningSecret::generate());
    rotate(&world, endpoint, &first, -1).await;
    receiver.register("/0".to_owned(), endpoint.id, &first.to_text());
    rotate(&world, endpoint, &second, 1).await;
    producer.send(&event).await;
    let webhooks = receiver.wait_for(1).await;
    let overlap = &webhooks[0];
    assert_eq!(header(overlap, "webhook-signature").split(' ').count(), 2);
    for (secret, is_valid) in [(&first, true), (&second, true), (&third, false)] {
        assert_eq!(verifies(&packages, secret, overlap).await, is_valid);
    }

    rotate(&world, endpoint, &third, -1).await;
    receiver.register("/0".to_owned(), endpoint.id, &third.to_text());
    producer.send(&event).await;
    let webhooks = receiver.wait_for(2).await;
    let after = &webhooks[1];
    assert_eq!(header(after, "webhook-signature").split(' ').count(), 1);
    for (secret, is_valid) in [(&second, false), (&third, true)] {
        assert_eq!(verifies(&packages, secret, after).await, is_valid);
    }
    world.finish().await;
}

const VERIFIER: &str = r#"
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

headers = json.loads(sys.argv[2])
try:
    Webhook(sys.argv[1]).verify(sys.stdin.buffer.read(), headers)
    print("valid")
except WebhookVerificationError as error:
    print("invalid:", error)
"#;

/// What the official library says of a request as it came in.
async fn verifies(packages: &Path, secret: &SigningSecret, webhook: &Webhook) -> bool {
    let headers: serde_json::Map<_, _> = webhook
        .headers
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                value.to_str().expect("headers are ASCII").into(),
            )
        })
        .collect();
    let mut child = Command::new("python3")
        .args([
            "-c",
            VERIFIER,
            &secret.to_text(),
            &Value::Object(headers).to_string(),
        ])
        .env("PYTHONPATH", packages)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is there: it installed the packages");
    let mut input = child.stdin.take().expect("it is piped");
    input.write_all(&webhook.body).await.expect("it reads all");
    drop(input);
    let output = child.wait_with_output().await.expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    match said.trim() {
        "valid" => true,
        said if said.starts_with("invalid: No matching signature") => false,
        said => panic!("it says {said:?}"),
    }
}
