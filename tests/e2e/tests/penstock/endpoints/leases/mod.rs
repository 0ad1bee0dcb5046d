//! What consumers do with the leases that they hold, and what their endpoint allows them together.

mod limits;

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{call, json as body, status, text};
use crate::endpoints::pull::{Consumer, send};
use crate::setup;

async fn post(consumer: &Consumer, verb: &str, request: Value) -> Value {
    body(consumer.post(verb, &request)).await
}

/// The outcomes of a list of results.
fn outcomes(results: &Value) -> Vec<&str> {
    let results = results.as_array().expect("there are results").iter();
    results.map(|result| text(result, "outcome")).collect()
}

async fn change(world: &World, organization: &Organization, consumer: &Consumer, settings: Value) {
    let path = format!("/{}", consumer.endpoint);
    let change = call(world, organization, Method::PATCH, &path).json(&settings);
    assert_eq!(status(change).await, 200);
}

#[tokio::test]
async fn what_is_given_back_comes_again_until_its_attempts_are_used_up() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    change(
        &world,
        &organization,
        &consumer,
        json!({"retry": {"attempts": 2}}),
    )
    .await;
    let watcher = world.receiver().await;
    let asks = json!({"event_types": ["delivery.dead"]});
    world.endpoint_with(&organization, &watcher, asks).await;
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;

    let first = consumer.pull(json!({})).await;
    let given_back = post(&consumer, "nack", json!({"leases": [first[0].lease, "x"]})).await;
    assert_eq!(outcomes(&given_back["results"]), ["nacked", "unknown"]);
    assert_eq!(given_back["results"][0]["lease"], first[0].lease);
    let second = consumer.pull(json!({"lease_seconds": 3_600})).await;
    assert_eq!((second[0].event.id, second[0].attempt), (id, 2));
    let again = post(&consumer, "nack", json!({"leases": [first[0].lease]})).await;
    assert_eq!(outcomes(&again["results"]), ["expired"]);

    let last = post(
        &consumer,
        "nack",
        json!({"leases": [second[0].lease], "delay_seconds": 60}),
    )
    .await;
    assert_eq!(outcomes(&last["results"]), ["dead"]);
    let delivery = world.until_delivery_is(id, "dead").await;
    assert_eq!(delivery.attempts, 2);
    let attempts = world.attempts_of(id).await;
    let attempts: Vec<_> = attempts
        .iter()
        .map(|attempt| (attempt.number, &*attempt.outcome))
        .collect();
    assert_eq!(attempts, [(1, "rejected"), (2, "rejected")]);
    let notice: Value = serde_json::from_slice(&watcher.wait_for(1).await[0].body).expect("it is JSON");
    assert_eq!(
        notice["data"],
        json!({"endpoint_id": consumer.endpoint, "event_id": id, "event_type": "a", "attempts": 2, "reason": "rejected"})
    );
    assert_eq!(consumer.acknowledge(&second[0].lease).await, "expired");
    world.finish().await;
}

#[tokio::test]
async fn what_was_given_back_too_often_for_a_new_limit_is_leased_once_more_and_then_dead() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;
    for _ in 0..2 {
        let held = consumer.pull(json!({})).await;
        post(&consumer, "nack", json!({"leases": [held[0].lease]})).await;
    }
    let limit = json!({"retry": {"attempts": 1}});
    change(&world, &organization, &consumer, limit).await;
    let last = consumer.pull(json!({"wait_seconds": 5})).await;
    assert_eq!(last.len(), 1, "nobody else ends it");
    assert_eq!((last[0].event.id, last[0].attempt), (id, 3));
    let ended = post(&consumer, "nack", json!({"leases": [last[0].lease]})).await;
    assert_eq!(outcomes(&ended["results"]), ["dead"]);
    assert_eq!(world.until_delivery_is(id, "dead").await.attempts, 3);
    world.finish().await;
}

#[tokio::test]
async fn a_consumer_that_stops_ends_all_its_leases_with_one_request() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    for number in 1..=3 {
        send(&world, &organization, &number.to_string()).await;
    }
    world.until_deliveries_are_stored(3).await;
    let held = consumer.pull(json!({"lease_seconds": 3_600})).await;
    let [done, left, later] = [0, 1, 2].map(|index| held[index].lease.clone());
    let both = json!({"leases": [&done], "nack": [&done]});
    let refused: Value = consumer
        .post("ack", &both)
        .send()
        .await
        .unwrap()
        .json()
        .await
        .unwrap();
    assert_eq!(
        refused["errors"],
        json!([{"field": "nack", "detail": "must not name a lease of `leases`"}])
    );
    let ended = post(&consumer, "ack", json!({"leases": [&done], "nack": [&left]})).await;
    assert_eq!(outcomes(&ended["results"]), ["acknowledged"]);
    assert_eq!(outcomes(&ended["nack_results"]), ["nacked"]);
    let ended = post(
        &consumer,
        "nack",
        json!({"leases": [&done, &later], "delay_seconds": 3_600}),
    )
    .await;
    assert_eq!(outcomes(&ended["results"]), ["already_acknowledged", "nacked"]);

    let again = consumer.pull(json!({})).await;
    assert_eq!(again.len(), 1, "the other one is not due for an hour");
    assert_eq!((again[0].event.id, again[0].attempt), (held[1].event.id, 2));
    let due_in = sqlx::query_scalar(
        "select extract(epoch from next_attempt_at - now())::float8 from deliveries where lease_token is null
         and status = 'pending'",
    );
    let due_in: f64 = due_in.fetch_one(world.database()).await.expect("one is left");
    assert!((3_500.0..=3_600.0).contains(&due_in), "{due_in}");
    let (acknowledged, outcome): (bool, Option<String>) =
        sqlx::query_as("select status = 'delivered', last_outcome from deliveries where event_id = $1")
            .bind(held[0].event.id)
            .fetch_one(world.database())
            .await
            .unwrap();
    assert_eq!((acknowledged, outcome.as_deref()), (true, Some("delivered")));
    world.finish().await;
}

#[tokio::test]
async fn a_lease_that_is_extended_holds_until_its_new_end() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;
    let held = consumer
        .pull(json!({"lease_seconds": 1, "wait_seconds": 20}))
        .await;
    let lease = &held[0].lease;
    let extended = post(
        &consumer,
        "extend",
        json!({"leases": [lease, "x"], "lease_seconds": 600}),
    )
    .await;
    assert_eq!(outcomes(&extended["results"]), ["extended", "unknown"]);
    assert!(
        extended["results"][0]["lease_expires_at"].is_string(),
        "{extended}"
    );
    assert_eq!(extended["results"][1]["lease_expires_at"], Value::Null);
    assert!(
        consumer.pull(json!({"wait_seconds": 2})).await.is_empty(),
        "its first end has passed"
    );
    assert_eq!(consumer.acknowledge(lease).await, "acknowledged");
    let late = post(&consumer, "extend", json!({"leases": [lease]})).await;
    assert_eq!(outcomes(&late["results"]), ["already_acknowledged"]);
    for (verb, field, request) in [
        (
            "nack",
            "delay_seconds",
            json!({"leases": [lease], "delay_seconds": 86_401}),
        ),
        (
            "ack",
            "delay_seconds",
            json!({"leases": [lease], "nack": ["x"], "delay_seconds": -1}),
        ),
        (
            "extend",
            "lease_seconds",
            json!({"leases": [lease], "lease_seconds": 0}),
        ),
        ("nack", "leases", json!({"leases": []})),
        ("extend", "leases", json!({"leases": vec!["x"; 1_001]})),
    ] {
        let answer = consumer.post(verb, &request).send().await.unwrap();
        assert_eq!(answer.status(), 422, "{verb} {field}");
        let problem: Value = answer.json().await.unwrap();
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    world.finish().await;
}

#[tokio::test]
async fn events_are_pulled_as_cloudevents_with_all_their_attributes() {
    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    change(&world, &organization, &consumer, json!({"format": "cloudevents"})).await;
    let producer = world.producer(&organization);
    let events = [
        (
            "application/json",
            r#"{"type":"t","ordering_key":"k","data":{"n" :1e400}}"#,
        ),
        (
            "application/cloudevents+json",
            r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"k","vip":true,"data":[1 ,2]}"#,
        ),
        (
            "application/cloudevents+json",
            r#"{"specversion":"1.0","id":"2","source":"/s","type":"t","datacontenttype":"text/plain","data_base64":"aGk="}"#,
        ),
    ];
    for (index, (content_type, event)) in events.into_iter().enumerate() {
        let sent = producer
            .post("/v1/events")
            .header("content-type", content_type)
            .header("traceparent", TRACE)
            .body(event);
        assert_eq!(sent.send().await.unwrap().status(), 202);
        world.until_deliveries_are_stored(index + 1).await;
    }
    let answer = consumer
        .post("pull", &json!({}))
        .send()
        .await
        .unwrap()
        .text()
        .await
        .unwrap();
    assert!(
        answer.contains(r#""data":{"n" :1e400}"#),
        "byte for byte: {answer}"
    );
    // 1e400 is no number that serde_json reads.
    let pulled: Value = serde_json::from_str(&answer.replace("1e400", "1")).unwrap();
    let mut shown = Vec::new();
    for delivery in pulled["deliveries"].as_array().unwrap() {
        let mut event = delivery["event"].clone();
        if event["time"].is_string() {
            assert_eq!(event["id"], delivery["event_id"]);
            for field in ["id", "time", "source"] {
                event[field] = json!("…");
            }
        }
        shown.push(event.to_string());
    }
    insta::assert_snapshot!(shown.join("\n"), @r#"
    {"data":{"n":1},"datacontenttype":"application/json","id":"…","partitionkey":"k","source":"…","specversion":"1.0","time":"…","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","type":"t"}
    {"data":[1,2],"id":"1","partitionkey":"k","source":"/s","specversion":"1.0","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","type":"t","vip":true}
    {"data_base64":"aGk=","datacontenttype":"text/plain","id":"2","source":"/s","specversion":"1.0","traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","type":"t"}
    "#);
    world.finish().await;
}
