//! Deliveries that their owner pulls.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use e2e::{Answer, Attempt, Event, Organization, STOP_DEADLINE, World, transcript, until};
use futures_util::future::join_all;
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use shared::domain::id::{EndpointId, EventId};
use tokio::task::JoinSet;

use crate::calls::{answer, make, request, status, text};
use crate::setup;

/// A consumer of one pull endpoint at one `ingest-api`.
#[derive(Clone)]
struct Consumer {
    http: e2e::Client,
    url: String,
    key: String,
    endpoint: EndpointId,
}

#[derive(Deserialize)]
struct Pulled {
    deliveries: Vec<Delivery>,
}

#[derive(Deserialize)]
struct Delivery {
    event: PulledEvent,
    lease: String,
    attempt: i32,
}

#[derive(Deserialize)]
struct PulledEvent {
    id: EventId,
    data: Box<RawValue>,
}

/// A pull endpoint of an organisation, as its creation answers.
async fn create(world: &World, organization: &Organization) -> Value {
    let request = world
        .http()
        .post(world.url("/v1/endpoints"))
        .bearer_auth(&organization.key)
        .json(&json!({"kind": "pull"}));
    let response = request.send().await.expect("ingest-api answers");
    assert_eq!(response.status(), 201);
    response.json().await.expect("the answer is JSON")
}

impl Consumer {
    async fn new(world: &World, organization: &Organization) -> Self {
        let endpoint = create(world, organization).await;
        let id = endpoint["id"].as_str().expect("an endpoint has an id");
        Self::of(world, organization, id.parse().expect("the id is one"))
    }

    fn of(world: &World, organization: &Organization, endpoint: EndpointId) -> Self {
        Self {
            http: world.http().clone(),
            url: world.stack().ingest(0).url(),
            key: organization.key.clone(),
            endpoint,
        }
    }

    /// The same one at another `ingest-api`.
    fn at(&self, world: &World, replica: usize) -> Self {
        Self {
            url: world.stack().ingest(replica).url(),
            ..self.clone()
        }
    }

    fn post(&self, verb: &str, body: &Value) -> RequestBuilder {
        let url = format!("{}/v1/endpoints/{}/{verb}", self.url, self.endpoint);
        self.http.post(url).bearer_auth(&self.key).json(body)
    }

    async fn pull(&self, body: Value) -> Vec<Delivery> {
        let response = self.post("pull", &body).send().await.expect("ingest-api answers");
        let text = response.text().await.expect("an answer has a whole body");
        let pulled: Pulled = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        pulled.deliveries
    }

    /// The outcome of one lease.
    async fn acknowledge(&self, lease: &str) -> String {
        let outcomes = self.acknowledge_all(&[lease]).await;
        outcomes.into_iter().next().expect("each lease has an outcome")
    }

    async fn acknowledge_all(&self, leases: &[&str]) -> Vec<String> {
        let request = self.post("ack", &json!({"leases": leases}));
        let response = request.send().await.expect("ingest-api answers");
        let answer: Value = response.json().await.expect("the answer is JSON");
        let results = answer["results"].as_array().expect("there are results").iter();
        let (echoed, outcomes): (Vec<_>, Vec<_>) = results
            .map(|result| (result["lease"].as_str(), result["outcome"].as_str()))
            .unzip();
        assert_eq!(echoed, leases.iter().copied().map(Some).collect::<Vec<_>>());
        outcomes
            .into_iter()
            .map(|outcome| outcome.expect("an outcome is a word").to_owned())
            .collect()
    }
}

async fn send(world: &World, organization: &Organization, data: &str) -> EventId {
    world.producer(organization).send(&Event::new("a", data)).await
}

/// Waits until the workers have stored as many deliveries.
async fn until_stored(world: &World, count: usize) {
    until(&format!("{count} stored deliveries"), async || {
        match world.deliveries().await.len() {
            stored if stored == count => Ok(()),
            stored => Err(stored.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn a_pull_endpoint_has_no_url_and_no_secret() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let mut endpoint = create(&world, &organization).await;
    for field in ["id", "created_at", "updated_at"] {
        endpoint[field] = json!("…");
    }
    insta::assert_snapshot!(endpoint, @r#"{"all_tenants":false,"created_at":"…","description":"","disabled_reason":null,"event_types":[],"filter":null,"health":{"circuit_open_until":null,"consecutive_failures":0,"failing_since":null,"state":"healthy"},"id":"…","kind":"pull","previous_secret_expires_at":null,"retry":{"attempts":null,"max_age_seconds":null},"status":"enabled","tenant":null,"updated_at":"…","url":null}"#);
    let post = |body: Value| {
        let request = world.http().post(world.url("/v1/endpoints"));
        request.bearer_auth(&organization.key).json(&body)
    };
    insta::assert_snapshot!(answer(post(json!({"kind": "pull", "url": "https://example.com/"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url","errors":[{"field":"url","detail":"must not stand beside the kind `pull`"}]}
    "#);
    insta::assert_snapshot!(answer(post(json!({}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url","errors":[{"field":"url","detail":"is missing"}]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn what_has_no_meaning_where_nothing_is_sent_is_refused_on_creation_and_change() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let endpoint = text(&create(&world, &organization).await, "id").to_owned();
    let at = |method, path: String| request(&world, 0, method, &path, &organization.key);
    for (field, setting) in [
        ("headers", json!({"headers": {"X-A": "1"}})),
        ("format", json!({"format": "cloudevents"})),
        (
            "retry.initial_seconds",
            json!({"retry": {"initial_seconds": 1.0}}),
        ),
        ("retry.factor", json!({"retry": {"factor": 2.0}})),
        ("retry.max_seconds", json!({"retry": {"max_seconds": 60.0}})),
        ("timeout_ms", json!({"timeout_ms": 1_000})),
        ("max_in_flight", json!({"max_in_flight": 1})),
        ("rate_limit_per_second", json!({"rate_limit_per_second": 1})),
        ("ordered", json!({"ordered": true})),
        ("on_exhausted", json!({"on_exhausted": "skip"})),
    ] {
        let mut new = setting.clone();
        new["kind"] = json!("pull");
        for request in [
            at(Method::POST, "/v1/endpoints".to_owned()).json(&new),
            at(Method::PATCH, format!("/v1/endpoints/{endpoint}")).json(&setting),
        ] {
            let answer = request.send().await.unwrap();
            assert_eq!(answer.status(), 422, "{setting}");
            let problem: Value = answer.json().await.unwrap();
            let expected = json!([{"field": field, "detail": "must not stand beside the kind `pull`"}]);
            assert_eq!(problem["errors"], expected);
        }
    }
    let holds = json!({"retry": {"attempts": 2.0, "max_age_seconds": 60}, "format": null, "ordered": false});
    let change = at(Method::PATCH, format!("/v1/endpoints/{endpoint}")).json(&holds);
    let shown: Value = change.send().await.unwrap().json().await.unwrap();
    assert_eq!(shown["retry"], json!({"attempts": 2, "max_age_seconds": 60.0}));
    world.finish().await;
}

/// Changes what a consumer's endpoint keeps of its deliveries, and to whom it tells their end.
async fn limit(world: &World, consumer: &Consumer, retry: Value) {
    let path = format!("/v1/endpoints/{}", consumer.endpoint);
    let change = request(world, 0, Method::PATCH, &path, &consumer.key).json(&json!({"retry": retry}));
    assert_eq!(status(change).await, 200);
}

#[tokio::test]
async fn a_delivery_whose_leases_run_out_is_dead_when_its_attempts_are_used_up() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = world.receiver().await;
    let asks = json!({"event_types": ["delivery.dead"]});
    world.endpoint_with(&organization, &receiver, asks).await;
    limit(&world, &consumer, json!({"attempts": 2})).await;
    let id = send(&world, &organization, "1").await;
    until_stored(&world, 1).await;

    let lease = json!({"lease_seconds": 1, "wait_seconds": 20});
    let first = consumer.pull(lease.clone()).await;
    let second = consumer.pull(lease).await;
    assert_eq!((first[0].attempt, second[0].attempt), (1, 2));
    assert_eq!(world.until_delivery_is(id, "dead").await.attempts, 2);
    assert!(consumer.pull(json!({})).await.is_empty());
    assert_eq!(consumer.acknowledge(&second[0].lease).await, "expired");
    receiver.wait_for(1).await;
    let notice: Value = serde_json::from_slice(&receiver.webhooks()[0].body).unwrap();
    assert_eq!(
        notice["data"],
        json!({"endpoint_id": consumer.endpoint, "event_id": id, "event_type": "a", "attempts": 2, "reason": "unacknowledged"})
    );

    // What is made again has its attempts again.
    let again = request(
        &world,
        0,
        Method::POST,
        &format!("/v1/events/{id}/replay"),
        &organization.key,
    );
    assert_eq!(status(again).await, 202);
    let third = consumer.pull(json!({"wait_seconds": 20})).await;
    assert_eq!((third[0].event.id, third[0].attempt), (id, 3));
    assert_eq!(consumer.acknowledge(&third[0].lease).await, "acknowledged");
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_that_is_too_old_is_dead_while_nobody_pulls_and_not_while_it_is_leased() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let (consumer, without_limit) = (
        Consumer::new(&world, &organization).await,
        Consumer::new(&world, &organization).await,
    );
    let leased = send(&world, &organization, "1").await;
    until_stored(&world, 2).await;
    let held = consumer.pull(json!({"lease_seconds": 3600})).await;
    assert_eq!(held.len(), 1);
    let waiting = send(&world, &organization, "2").await;
    until_stored(&world, 4).await;
    limit(&world, &consumer, json!({"max_age_seconds": 1})).await;

    let status_of = async |id, endpoint| {
        let deliveries = world.deliveries_of(id).await;
        let found = deliveries
            .into_iter()
            .find(|delivery| delivery.endpoint_id == endpoint);
        found.expect("the event has a delivery").status
    };
    until("the end of the delivery that waits", async || {
        match status_of(waiting, consumer.endpoint).await {
            dead if dead == "dead" => Ok(()),
            other => Err(other),
        }
    })
    .await;
    assert_eq!(status_of(leased, consumer.endpoint).await, "pending");
    assert_eq!(status_of(waiting, without_limit.endpoint).await, "pending");
    assert_eq!(consumer.acknowledge(&held[0].lease).await, "acknowledged");
    world.finish().await;
}

#[tokio::test]
async fn a_pulled_event_has_all_that_was_kept_of_it() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let event = world
        .producer(&organization)
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .header("traceparent", trace)
        .body(r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","partitionkey":"k","vip":true,"datacontenttype":"a/b+json","data":[1 ,2]}"#);
    assert_eq!(event.send().await.unwrap().status(), 202);
    let pull = consumer.post("pull", &json!({"wait_seconds": 20}));
    let pulled: Value = pull.send().await.unwrap().json().await.unwrap();
    let mut event = pulled["deliveries"][0]["event"].clone();
    assert_eq!(
        event["accepted_at"].as_str().map(str::len),
        Some("2026-01-02T03:04:05.000000Z".len())
    );
    for field in ["id", "accepted_at"] {
        event[field] = json!("…");
    }
    insta::assert_snapshot!(event, @r#"{"accepted_at":"…","cloudevent":{"datacontenttype":"a/b+json","id":"1","partitionkey":"k","source":"/s","specversion":"1.0","type":"t","vip":true},"content_type":"a/b+json","data":[1,2],"id":"…","idempotency_key":"[\"/s\",\"1\"]","ordering_key":"k","tenant":null,"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","type":"t"}"#);
    world.finish().await;
}

#[tokio::test]
async fn what_is_pulled_has_the_bytes_that_were_sent_and_is_acknowledged_once() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let (consumer, other) = (
        Consumer::new(&world, &organization).await,
        Consumer::new(&world, &organization).await,
    );
    let data = r#"{"b" : 1e400, "a": 12345678901234567890, "s": "\u0000"}"#;
    let id = send(&world, &organization, data).await;
    until_stored(&world, 2).await;

    let pulled = consumer.pull(json!({})).await;
    let [delivery] = &pulled[..] else {
        panic!("{} deliveries", pulled.len())
    };
    assert_eq!((delivery.event.id, delivery.attempt), (id, 1));
    assert_eq!(delivery.event.data.get(), data);
    assert!(consumer.pull(json!({})).await.is_empty(), "it is leased");

    let lease = &*delivery.lease;
    assert_eq!(other.acknowledge(lease).await, "expired", "it is not held there");
    let made_up = format!("{}AAAA", &lease[..50]);
    let outcomes = consumer.acknowledge_all(&[&made_up, lease, "x", lease]).await;
    assert_eq!(outcomes, ["expired", "acknowledged", "unknown", "acknowledged"]);
    assert_eq!(consumer.acknowledge(lease).await, "already_acknowledged");
    assert!(consumer.pull(json!({})).await.is_empty());
    let statuses: HashMap<_, _> = world
        .deliveries()
        .await
        .into_iter()
        .map(|delivery| (delivery.endpoint_id, (delivery.status, delivery.attempts)))
        .collect();
    assert_eq!(statuses[&consumer.endpoint], ("delivered".to_owned(), 1));
    assert_eq!(statuses[&other.endpoint], ("pending".to_owned(), 0));
    let attempt = Attempt {
        number: 1,
        outcome: "delivered".to_owned(),
        response_status: None,
    };
    assert_eq!(world.attempts_of(id).await, [attempt]);
    world.finish().await;
}

#[tokio::test]
async fn a_payload_that_is_not_json_comes_in_base64() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let event = world
        .producer(&organization)
        .post("/v1/events")
        .header("ce-specversion", "1.0")
        .header("ce-id", "1")
        .header("ce-source", "/s")
        .header("ce-type", "t")
        .header("content-type", "text/plain")
        .body("hi");
    assert_eq!(event.send().await.unwrap().status(), 202);
    let pull = consumer.post("pull", &json!({"wait_seconds": 20}));
    let pulled: Value = pull.send().await.unwrap().json().await.unwrap();
    let event = &pulled["deliveries"][0]["event"];
    assert_eq!(event["content_type"], "text/plain");
    assert_eq!(
        (&event["data_base64"], &event["data"]),
        (&json!("aGk="), &Value::Null)
    );
    world.finish().await;
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_back_when_its_lease_ends() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let id = send(&world, &organization, "1").await;
    until_stored(&world, 1).await;

    let first = consumer.pull(json!({"lease_seconds": 1})).await;
    assert_eq!(first.len(), 1);
    let second = consumer
        .pull(json!({"wait_seconds": 20, "lease_seconds": 1}))
        .await;
    assert_eq!((second[0].event.id, second[0].attempt), (id, 2));
    assert_eq!(consumer.acknowledge(&first[0].lease).await, "expired");
    assert_eq!(world.deliveries_of(id).await[0].status, "pending");

    // The lease ran out, but nobody else has leased the delivery since.
    until("the end of the second lease", async || {
        let due = sqlx::query_scalar("select next_attempt_at <= now() from deliveries");
        match due.fetch_one(world.database()).await {
            Ok(true) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(consumer.acknowledge(&second[0].lease).await, "acknowledged");
    assert_eq!(
        consumer.acknowledge(&first[0].lease).await,
        "already_acknowledged"
    );
    let attempts = world.attempts_of(id).await;
    let numbers: Vec<_> = attempts.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [2], "the lease that ran out was the first");
    world.finish().await;
}

#[tokio::test]
async fn consumers_that_pull_at_the_same_time_never_get_the_same_delivery() {
    const EVENTS: usize = 400;
    let world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let event = Event::new("a", "1");
    let producer = world.producer(&organization);
    join_all((0..EVENTS).map(|_| producer.send(&event))).await;
    until_stored(&world, EVENTS).await;

    let consumers = (0..8).map(|number| {
        let consumer = consumer.at(&world, number % 2);
        async move {
            let mut seen = Vec::new();
            loop {
                let pulled = consumer.pull(json!({"max": 7, "lease_seconds": 600})).await;
                let leases: Vec<_> = pulled.iter().map(|delivery| &*delivery.lease).collect();
                // The loop of one who finds nothing ends: what the others hold, they acknowledge.
                if leases.is_empty() {
                    return seen;
                }
                let outcomes = consumer.acknowledge_all(&leases).await;
                assert!(outcomes.iter().all(|outcome| outcome == "acknowledged"));
                seen.extend(pulled.iter().map(|delivery| delivery.event.id));
            }
        }
    });
    let mut seen = join_all(consumers).await.concat();
    seen.sort();
    assert_eq!(seen.len(), EVENTS);
    seen.dedup();
    assert_eq!(seen.len(), EVENTS, "each delivery was pulled once");
    world.until_deliveries_are(400, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn deliveries_come_in_the_order_in_which_they_are_due_and_4_mib_at_once() {
    const EVENTS: usize = 25;
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let data = format!("\"{}\"", "x".repeat(250 * 1024));
    let mut sent = Vec::new();
    for number in 1..=EVENTS {
        sent.push(send(&world, &organization, &data).await);
        until_stored(&world, number).await;
    }
    let mut seen = Vec::new();
    for (max, expected) in [(3, 3), (100, 16), (100, 6), (100, 0)] {
        let pulled = consumer.pull(json!({"max": max})).await;
        assert_eq!(pulled.len(), expected);
        seen.extend(pulled.iter().map(|delivery| delivery.event.id));
    }
    assert_eq!(seen, sent);
    world.finish().await;
}

#[tokio::test]
async fn a_pull_endpoint_is_never_dispatched() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| match webhook.number {
        1 => Answer::status(500),
        _ => Answer::status(204),
    });
    let push = world.endpoint(&organization, &receiver).await;
    let id = send(&world, &organization, "1").await;
    // The second attempt comes out of the table: the worker has looked for what is due there.
    receiver.wait_for(2).await;
    until("the webhook's delivery", async || {
        let deliveries = world.deliveries_of(id).await;
        let delivered = |delivery: &e2e::Delivery| delivery.status == "delivered";
        match deliveries.iter().find(|delivery| delivery.endpoint_id == push.id) {
            Some(delivery) if delivered(delivery) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let deliveries = world.deliveries_of(id).await;
    let pull = deliveries
        .iter()
        .find(|delivery| delivery.endpoint_id == consumer.endpoint)
        .expect("the pull endpoint has a delivery too");
    assert_eq!((&*pull.status, pull.attempts, pull.leased), ("pending", 0, false));
    assert_eq!(consumer.pull(json!({})).await.len(), 1);
    assert_eq!(receiver.requests(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_pull_that_waits_is_answered_as_soon_as_an_event_arrives_and_holds_no_connection() {
    let world = setup().ingest_env("DATABASE_CONNECTIONS", "1").start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let started = Instant::now();
    let body = json!({"wait_seconds": 20, "max": 1});
    let waiting = join_all((0..8).map(|_| consumer.pull(body.clone())));
    let sending = async {
        // The only connection is free for others while they wait.
        for _ in 0..5 {
            let list = world.http().get(world.url("/v1/endpoints"));
            let list = list.bearer_auth(&organization.key).send().await.unwrap();
            assert_eq!(list.status(), 200);
        }
        for _ in 0..8 {
            send(&world, &organization, "1").await;
        }
    };
    let (pulled, ()) = tokio::join!(waiting, sending);
    assert!(pulled.iter().all(|deliveries| deliveries.len() == 1));
    assert!(
        started.elapsed() < Duration::from_secs(10),
        "{:?}",
        started.elapsed()
    );
    world.finish().await;
}

/// Waits until as many pulls wait at the only `ingest-api`.
async fn until_waiting(world: &World, pulls: u32) {
    until(&format!("{pulls} pulls that wait"), async || {
        let metrics = world.http().get(world.stack().ingest(0).metrics_url());
        let metrics = metrics.send().await.expect("metrics are served").text().await;
        let metrics = metrics.expect("an answer has a whole body");
        if metrics.contains(&format!("\npulls_waiting {pulls}\n")) {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
}

#[tokio::test]
async fn a_pull_that_waits_ends_with_its_time_and_with_its_client_and_with_the_service() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let started = Instant::now();
    assert!(consumer.pull(json!({"wait_seconds": 1})).await.is_empty());
    assert!((1..5).contains(&started.elapsed().as_secs()));

    let wait = || {
        let request = consumer.post("pull", &json!({"wait_seconds": 20}));
        JoinSet::from_iter([async move { transcript(request.send().await.unwrap()).await }])
    };
    let mut client = wait();
    until_waiting(&world, 1).await;
    client.shutdown().await;
    until_waiting(&world, 0).await;

    let client = wait();
    until_waiting(&world, 1).await;
    let stopping = Instant::now();
    let stopped = world.stack_mut().ingest_mut(0).terminate(STOP_DEADLINE).await;
    assert!(stopped.expect("it runs").success());
    assert!(
        stopping.elapsed() < Duration::from_secs(5),
        "{:?}",
        stopping.elapsed()
    );
    insta::assert_snapshot!(client.join_all().await.concat(), @r#"
    200 OK
    content-type: application/json

    {"deliveries":[]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_pulled_is_refused() {
    let mut world = setup().start().await;
    let (organization, stranger) = (world.organization().await, world.organization().await);
    let consumer = Consumer::new(&world, &organization).await;
    let receiver = world.receiver().await;
    let push = world.endpoint(&organization, &receiver).await;
    let push = Consumer::of(&world, &organization, push.id);
    let foreign = Consumer::of(&world, &stranger, consumer.endpoint);

    insta::assert_snapshot!(answer(push.post("pull", &json!({}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is of kind `push`: its deliveries are sent to its URL"}
    "#);
    insta::assert_snapshot!(answer(push.post("ack", &json!({"leases": ["x"]}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is of kind `push`: its deliveries are sent to its URL"}
    "#);
    insta::assert_snapshot!(answer(foreign.post("pull", &json!({}))).await, @r#"
    404 Not Found
    content-type: application/problem+json

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here under this path"}
    "#);
    insta::assert_snapshot!(answer(foreign.post("ack", &json!({"leases": ["x"]}))).await, @r#"
    404 Not Found
    content-type: application/problem+json

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here under this path"}
    "#);
    let wrong = json!({"max": 101, "lease_seconds": 0, "wait_seconds": 21});
    insta::assert_snapshot!(answer(consumer.post("pull", &wrong)).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: max, lease_seconds, wait_seconds","errors":[{"field":"max","detail":"must be 1 to 100"},{"field":"lease_seconds","detail":"must be 1 to 3600"},{"field":"wait_seconds","detail":"must be 0 to 20"}]}
    "#);
    insta::assert_snapshot!(answer(consumer.post("ack", &json!({"leases": []}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: leases","errors":[{"field":"leases","detail":"must hold 1 to 1000 leases"}]}
    "#);
    let disable =
        sqlx::query("update endpoints set status = 'disabled' where id = $1").bind(consumer.endpoint);
    disable.execute(world.database()).await.unwrap();
    insta::assert_snapshot!(answer(consumer.post("pull", &json!({}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the endpoint is disabled"}
    "#);
    world.finish().await;
}

async fn until_somebody_waits(world: &World) {
    until("a pull to wait", async || {
        let waiting = world.gauge(world.stack().ingest(0), "pulls_waiting").await;
        waiting
            .filter(|count| *count > 0.0)
            .map(drop)
            .ok_or_else(|| format!("{waiting:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_pull_that_waits_gets_nothing_any_more_when_its_key_is_revoked_or_its_endpoint_disabled() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let made = make(
        &world,
        &organization.key,
        &json!({"name": "a", "scopes": ["manage"]}),
    )
    .await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let revoked = Consumer {
        key: key.to_owned(),
        ..consumer.clone()
    };
    let pull = revoked
        .post("pull", &json!({"wait_seconds": 20, "lease_seconds": 1}))
        .send();
    let revoking = async {
        until_somebody_waits(&world).await;
        let revoke = request(
            &world,
            0,
            Method::DELETE,
            &format!("/v1/keys/{id}"),
            &organization.key,
        );
        assert_eq!(status(revoke).await, 204);
        send(&world, &organization, "1").await;
    };
    let (pulled, ()) = tokio::join!(pull, revoking);
    assert_eq!(pulled.expect("ingest-api answers").status(), 503);

    let leased = consumer
        .pull(json!({"wait_seconds": 20, "lease_seconds": 3_600}))
        .await;
    assert_eq!(leased.len(), 1);
    let disabling = async {
        until_somebody_waits(&world).await;
        let path = format!("/v1/endpoints/{}", consumer.endpoint);
        let disable = request(&world, 0, Method::PATCH, &path, &organization.key);
        assert_eq!(status(disable.json(&json!({"status": "disabled"}))).await, 200);
        let due = sqlx::query("update deliveries set next_attempt_at = now()");
        due.execute(world.database()).await.expect("Postgres answers");
    };
    let pull = consumer.pull(json!({"wait_seconds": 4}));
    let (pulled, ()) = tokio::join!(pull, disabling);
    assert!(pulled.is_empty());
    let path = format!("/v1/endpoints/{}", consumer.endpoint);
    let delete = request(&world, 0, Method::DELETE, &path, &organization.key);
    assert_eq!(status(delete).await, 204);
    world.settle().await;
    world.finish().await;
}
