//! CloudEvents, sent by the official Python SDK in each of its modes.

use std::collections::HashSet;
use std::process::Stdio;

use e2e::World;
use serde_json::{Value, json};
use shared::id::EventId;
use tokio::process::Command;

use crate::python;
use crate::setup;

/// The SDK renders the event; its own batch mode is broken, so a batch is what the specification says it is: a
/// JSON array of structured events. Prints one line a request: status, blank, body.
const PRODUCER: &str = r#"
import json, sys, urllib.request
from datetime import datetime, timezone
from cloudevents.core.bindings.http import to_binary_event, to_structured_event
from cloudevents.core.v1.event import CloudEvent

url, key = sys.argv[1:]

def event(id, data, content_type="application/json"):
    return CloudEvent({"id": id, "source": "/sdk", "type": "com.example.order", "specversion": "1.0",
                       "subject": "größe 100%", "time": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
                       "datacontenttype": content_type, "region": "eu"}, data)

def send(headers, body):
    body = body if isinstance(body, bytes) else body.encode()
    request = urllib.request.Request(url, body, {**headers, "X-API-Key": key}, method="POST")
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
        print(answer.status, answer.read().decode())

for id, data, content_type in [("1", {"n": 1}, "application/json"), ("2", "hello", "text/plain")]:
    message = to_binary_event(event(id, data, content_type))
    send(message.headers, message.body)
structured = [to_structured_event(event(id, {"n": int(id)})) for id in ["3", "4", "5"]]
send(structured[0].headers, structured[0].body)
batch = b"[" + b",".join(bytes(m.body) for m in structured[1:]) + b"]"
send({"content-type": "application/cloudevents-batch+json"}, batch)
# A repeat, in another mode.
message = to_binary_event(event("3", {"n": 3}))
send(message.headers, message.body)
"#;

async fn run_producer(world: &World, key: &str) -> Vec<(u16, Value)> {
    let packages = python::packages(&[
        "cloudevents==2.2.0",
        "python-dateutil==2.9.0.post0",
        "six==1.17.0",
    ])
    .await;
    let output = Command::new("python3")
        .args(["-c", PRODUCER, &world.url("/v1/events"), key])
        .env("PYTHONPATH", packages)
        .stdin(Stdio::null())
        .output()
        .await
        .expect("python3 is there: it installed the packages");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let lines = text
        .lines()
        .map(|line| line.split_once(' ').expect("a line is a status and a body"));
    lines
        .map(|(status, body)| {
            (
                status.parse().expect("a status is a number"),
                serde_json::from_str(body).expect("a body is JSON"),
            )
        })
        .collect()
}

fn id_of(answer: &Value) -> EventId {
    answer["id"]
        .as_str()
        .expect("an accepted event has an id")
        .parse()
        .expect("its id is one")
}

#[tokio::test]
async fn the_official_sdk_sends_in_every_mode_and_nothing_of_its_events_is_lost() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;

    let answers = run_producer(&world, &organization.key).await;
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [202; 5]);
    let (binary, text, structured) = (id_of(&answers[0].1), id_of(&answers[1].1), id_of(&answers[2].1));
    assert_eq!(
        id_of(&answers[4].1),
        structured,
        "source and id name the event, whatever the mode"
    );
    let batch: Vec<_> = answers[3].1["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(id_of)
        .collect();
    world.settle().await;

    let delivered: HashSet<_> = receiver.webhooks().iter().map(|webhook| webhook.id).collect();
    assert_eq!(delivered, [binary, text, structured, batch[0], batch[1]].into());
    assert_eq!(receiver.count(), 5);
    let body = |id| -> Value { serde_json::from_slice(&receiver.webhooks_of(id)[0].body).unwrap() };
    assert_eq!(body(binary)["data"], json!({"n": 1}));
    assert_eq!(
        (&body(text)["content_type"], &body(text)["data_base64"]),
        (&json!("text/plain"), &json!("aGVsbG8="))
    );

    let attributes = stored_attributes(&world, structured).await;
    insta::assert_snapshot!(
        attributes,
        @r#"{"datacontenttype":"application/json","id":"3","region":"eu","source":"/sdk","specversion":"1.0","subject":"größe 100%","time":"2026-01-02T03:04:05Z","type":"com.example.order"}"#
    );
    let with_id_1 = attributes.replace(r#""id":"3""#, r#""id":"1""#);
    assert_eq!(
        stored_attributes(&world, binary).await,
        with_id_1,
        "both modes carry the same"
    );
    world.finish().await;
}

async fn stored_attributes(world: &World, id: EventId) -> String {
    let query = sqlx::query_scalar("select cloudevent from events where id = $1").bind(id);
    query
        .fetch_one(world.database())
        .await
        .expect("the event is stored")
}

#[tokio::test]
async fn other_media_types_of_cloudevents_are_refused_and_the_handshake_is_answered() {
    let world = setup().replicas(1, 0).start().await;
    let producer = world.producer(&world.organization().await);
    let avro = producer
        .post("/v1/events")
        .header("content-type", "application/cloudevents+avro")
        .body("x");
    assert_eq!(avro.send().await.unwrap().status(), 415);
    let handshake = world
        .http()
        .request(reqwest::Method::OPTIONS, world.url("/v1/events"));
    let answer = handshake
        .header("webhook-request-origin", "events.example.com")
        .send()
        .await
        .unwrap();
    let header = |name| answer.headers()[name].to_str().unwrap();
    assert_eq!((answer.status().as_u16(), header("allow")), (200, "POST"));
    assert_eq!(
        (header("webhook-allowed-origin"), header("webhook-allowed-rate")),
        ("events.example.com", "*")
    );
    world.finish().await;
}
