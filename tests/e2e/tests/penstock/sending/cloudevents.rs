//! CloudEvents, sent by the official Python SDK in each of its modes.

use std::collections::HashSet;
use std::process::Stdio;

use e2e::World;
use serde_json::{Value, json};
use shared::domain::id::EventId;
use tokio::process::Command;

use crate::programs::{node, python};
use crate::setup;

/// The SDK renders the event; its own batch mode is broken, so a batch is what the specification says it is: a
/// JSON array of structured events. Prints one line a request: status, blank, body.
const PRODUCER: &str = r#"
import http.client, sys, urllib.parse
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
    target = urllib.parse.urlsplit(url)
    # Unlike urllib, it adds no content type of its own.
    connection = http.client.HTTPConnection(target.netloc)
    connection.request("POST", target.path, body, {**headers, "X-API-Key": key})
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())

for id, data, content_type in [("1", {"n": 1}, "application/json"), ("2", "hello", "text/plain")]:
    message = to_binary_event(event(id, data, content_type))
    send(message.headers, message.body)
structured = [to_structured_event(event(id, {"n": int(id)})) for id in ["3", "4", "5"]]
send(structured[0].headers, structured[0].body)
batch = b"[" + b",".join(bytes(m.body) for m in structured[1:]) + b"]"
send({"content-type": "application/cloudevents-batch+json"}, batch)
# Neither a content type nor an attribute for it, and neither of these and no data.
plain = {"id": "6", "source": "/sdk", "type": "com.example.order", "specversion": "1.0", "subject": "50% of %zz"}
message = to_binary_event(CloudEvent(plain, {"n": 6}))
assert not any(name.lower() == "content-type" for name in message.headers), message.headers
send(message.headers, message.body)
message = to_binary_event(CloudEvent({**plain, "id": "7"}, None))
send(message.headers, message.body)
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
    lines(&output)
}

/// What a producer printed.
fn lines(output: &std::process::Output) -> Vec<(u16, Value)> {
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
    assert_eq!(statuses, [202; 7]);
    let (binary, text, structured) = (id_of(&answers[0].1), id_of(&answers[1].1), id_of(&answers[2].1));
    assert_eq!(
        id_of(&answers[6].1),
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
    let (untyped, empty) = (id_of(&answers[4].1), id_of(&answers[5].1));
    assert_eq!(
        delivered,
        [binary, text, structured, batch[0], batch[1], untyped, empty].into()
    );
    assert_eq!(receiver.count(), 7);
    let body = |id| -> Value { serde_json::from_slice(&receiver.webhooks_of(id)[0].body).unwrap() };
    assert_eq!(body(binary)["data"], json!({"n": 1}));
    assert_eq!(body(untyped)["data"], json!({"n": 6}), "it can be read as JSON");
    assert_eq!(body(empty).get("data"), Some(&Value::Null));
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

/// Sends an event without data, one with a `%`, a structured one and a batch. Prints one line a request: status, blank, body.
const NODE_PRODUCER: &str = r#"
const { CloudEvent, HTTP } = require("cloudevents");
const [url, key] = process.argv.slice(1);
async function send({ headers, body }) {
  const answer = await fetch(url, { method: "POST", headers: { ...headers, "X-API-Key": key }, body });
  console.log(answer.status, await answer.text());
}
const event = (id, more) => new CloudEvent({ id, source: "/js", type: "com.example.order", ...more });
(async () => {
  await send(HTTP.binary(event("1", { datacontenttype: "application/json" })));
  await send(HTTP.binary(event("2", { subject: "100% off", data: { n: 2 } })));
  await send(HTTP.structured(event("3", { data: { n: 3 } })));
  await send(HTTP.structured(event("4", {})));
})();
"#;

#[tokio::test]
async fn what_the_javascript_sdk_sends_is_taken() {
    let Some(folder) = node::package("cloudevents@10.0.0").await else {
        return;
    };
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let mut command = Command::new("node");
    command.args(["-e", NODE_PRODUCER, &world.url("/v1/events"), &organization.key]);
    command.current_dir(folder).stdin(Stdio::null());
    let output = command.output().await.expect("node is there: npm is");
    let answers = lines(&output);
    let statuses: Vec<_> = answers.iter().map(|(status, _)| *status).collect();
    assert_eq!(statuses, [202; 4], "{answers:?}");
    receiver.wait_for(4).await;
    world.settle().await;
    let data = |index: usize| -> Value {
        let webhooks = receiver.webhooks_of(id_of(&answers[index].1));
        let body: Value = serde_json::from_slice(&webhooks[0].body).unwrap();
        body.get("data").expect("every body has data").clone()
    };
    assert_eq!([data(0), data(1)], [Value::Null, json!({"n": 2})]);
    assert_eq!([data(2), data(3)], [json!({"n": 3}), Value::Null]);
    let attributes: Value =
        serde_json::from_str(&stored_attributes(&world, id_of(&answers[1].1)).await).unwrap();
    assert_eq!(attributes["subject"], "100% off");
    world.finish().await;
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
