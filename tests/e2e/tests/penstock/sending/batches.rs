//! Many events in one request.

use e2e::{Event, Producer};
use reqwest::Response;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::tried;
use crate::setup;

async fn send(producer: &Producer, content_type: &str, body: String) -> Response {
    let request = producer
        .post("/v1/events/batch")
        .header("content-type", content_type)
        .body(body);
    request.send().await.expect("ingest-api answers")
}

async fn outcome(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    (status, response.json().await.expect("the answer is JSON"))
}

fn ids(outcome: &Value) -> Vec<EventId> {
    let results = outcome["results"].as_array().expect("there are results");
    results
        .iter()
        .filter_map(|result| result["id"].as_str()?.parse().ok())
        .collect()
}

#[tokio::test]
async fn a_full_batch_arrives_event_by_event_with_its_bytes() {
    const EVENTS: usize = 1_000;
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let patient = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, patient).await;
    let data: Vec<_> = (0..EVENTS).map(|number| format!("[{number} , 1e400]")).collect();
    let events: Vec<_> = data
        .iter()
        .map(|data| Event::new("b", data.as_str()).body())
        .collect();

    let response = send(
        &world.producer(&organization),
        "application/json",
        format!("[{}]", events.join(",")),
    )
    .await;
    let (status, outcome) = outcome(response).await;
    assert_eq!(
        (status, &outcome["accepted"], &outcome["refused"]),
        (202, &json!(EVENTS), &json!(0))
    );
    let ids = ids(&outcome);
    receiver.wait_for(EVENTS).await;
    world.settle().await;
    for (id, data) in ids.iter().zip(&data) {
        let webhooks = receiver.webhooks_of(*id);
        assert_eq!(webhooks.len(), 1);
        assert_eq!(webhooks[0].parse().data.get(), data);
    }
    world.finish().await;
}

#[tokio::test]
async fn one_bad_event_does_not_spoil_its_neighbours() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let lines = "{\"type\":\"a\",\"data\":1}\n{\"type\":\"b\"}\n{broken\n{\"type\":\"c\",\"data\":2}\n";
    let (status, outcome) = outcome(send(&producer, "application/x-ndjson", lines.to_owned()).await).await;
    let statuses: Vec<_> = outcome["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| &result["status"])
        .collect();
    assert_eq!(
        (status, statuses),
        (207, vec![&json!(202), &json!(422), &json!(400), &json!(202)])
    );
    insta::assert_snapshot!(
        outcome["results"][1],
        @r#"{"detail":"wrong: data","errors":[{"detail":"is missing","field":"data"}],"status":422,"title":"Unprocessable Entity","type":"about:blank"}"#
    );
    let kinds: Vec<_> = receiver
        .wait_for(2)
        .await
        .iter()
        .map(|webhook| webhook.parse().r#type)
        .collect();
    assert!(
        kinds.contains(&"a".to_owned()) && kinds.contains(&"c".to_owned()),
        "{kinds:?}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_repeat_inside_a_batch_or_in_a_later_one_is_delivered_once() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let event = Event::new("a", "1").with_idempotency_key("k").body();
    let mut seen = Vec::new();
    for body in [format!("[{event},{event}]"), format!("[{event}]")] {
        let (status, outcome) = outcome(send(&producer, "application/json", body).await).await;
        assert_eq!(status, 202, "{outcome}");
        seen.extend(ids(&outcome));
    }
    seen.dedup();
    assert_eq!(seen.len(), 1);
    world.settle().await;
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_batch_that_is_too_large_is_refused_as_a_whole() {
    let world = setup().replicas(1, 0).start().await;
    let producer = world.producer(&world.organization().await);
    let many = vec![r#"{"type":"a","data":1}"#; 1_001].join("\n");
    let large = format!(r#"[{{"type":"a","data":"{}"}}]"#, "x".repeat(5 << 20));
    for (content_type, body) in [("application/x-ndjson", many), ("application/json", large)] {
        assert_eq!(send(&producer, content_type, body).await.status(), 413);
    }
    assert_eq!(send(&producer, "text/plain", String::new()).await.status(), 415);
    world.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_for_many_events_or_for_a_cloudevent_is_refused() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let cloudevent = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;
    for (path, content_type, body) in [
        (
            "/v1/events/batch",
            "application/json",
            r#"[{"type":"a","data":1}]"#,
        ),
        (
            "/v1/events/batch",
            "application/x-ndjson",
            r#"{"type":"a","data":1}"#,
        ),
        ("/v1/events", "application/cloudevents+json", cloudevent),
        (
            "/v1/events",
            "application/cloudevents-batch+json",
            &format!("[{cloudevent}]"),
        ),
        ("/v1/events", "text/plain", "binary mode"),
    ] {
        let mut request = producer.post(path).header("content-type", content_type);
        if content_type == "text/plain" {
            for (name, value) in [
                ("specversion", "1.0"),
                ("id", "1"),
                ("source", "/s"),
                ("type", "t"),
            ] {
                request = request.header(format!("ce-{name}"), value);
            }
        }
        let request = request.header("idempotency-key", "k").body(body.to_owned());
        let (status, problem) = outcome(request.send().await.unwrap()).await;
        assert_eq!(
            (status, &problem["errors"][0]["field"]),
            (422, &json!("Idempotency-Key")),
            "{content_type}"
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn each_event_that_is_not_stored_is_counted_once() {
    let mut world = setup().ingest_env("PUBLISH_TIMEOUT", "1s").start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let batch = r#"[{"type":"a","data":1},{"type":"a","data":2},{"type":"a","data":3}]"#;
    // The key is in memory then.
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    world.stack_mut().nats_mut().kill().await.unwrap();
    let response = send(&producer, "application/json", batch.to_owned()).await;
    assert_eq!(response.status(), 503);
    assert_eq!(world.metric(0, "penstock_publish_refusals_total").await, 3);
    let response = producer.try_send(&Event::new("a", "1")).await.unwrap();
    assert_eq!(response.status(), 503);
    assert_eq!(world.metric(0, "penstock_publish_refusals_total").await, 4);
    world.stack_mut().nats_mut().start().await.unwrap();
    world.finish().await;
}
