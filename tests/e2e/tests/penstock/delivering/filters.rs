//! Payload filters as endpoints use them: what they let through, and what they cannot hold up.

use std::time::Duration;

use e2e::{Event, World, hostile_filter, hostile_payload, until_within};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{call, json};
use crate::setup;

#[tokio::test]
async fn numbers_and_names_in_filters_are_what_their_texts_say() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    // As text: this side's JSON knows no such numbers.
    let filter: Value =
        serde_json::from_str(r#"{"/id":{"gte":1780921717355446273},"/test":{"exists":false}}"#)
            .expect("it is JSON");
    world
        .endpoint_with(&organization, &receiver, json!({"filter": filter}))
        .await;
    let producer = world.producer(&organization);
    for data in [
        r#"{"id":1780921717355446272}"#,
        r#"{"x\ud83d":1,"id":1780921717355446272}"#,
        r#"{"x\ud83d":1,"id":1780921717355446273,"test":1}"#,
    ] {
        producer.send(&Event::new("a", data)).await;
    }
    let wanted = r#"{"x\ud83d":1,"id":1780921717355446273}"#;
    let id = producer.send(&Event::new("a", wanted)).await;
    let webhooks = receiver.wait_for(1).await;
    assert_eq!(webhooks[0].parse().data.get(), wanted);
    world.settle().await;
    assert_eq!((receiver.count(), world.deliveries().await[0].event_id), (1, id));
    world.finish().await;
}

#[tokio::test]
async fn a_filter_that_is_not_reached_ends_its_delivery_and_says_so() {
    let mut world = setup().worker_env("FILTER_STEPS", "100").start().await;
    let organization = world.organization().await;
    let (receiver, plain) = (world.receiver().await, world.receiver().await);
    let cheap = json!({"filter": {"/total": 1}});
    let first = world.endpoint_with(&organization, &receiver, cheap.clone()).await;
    let costly = json!({"filter": hostile_filter(1)});
    let second = world.endpoint_with(&organization, &receiver, costly).await;
    world.endpoint(&organization, &plain).await;
    let id = world
        .producer(&organization)
        .send(&Event::new("a", r#"{"total":1}"#))
        .await;
    plain.wait_for(1).await;
    receiver.wait_for(1).await;
    world.settle().await;
    let of = |endpoint: &Value| {
        let path = format!(
            "/{}/deliveries?status=dead",
            endpoint.as_str().expect("it is an id")
        );
        json(call(&world, &organization, Method::GET, &path))
    };
    let dead = of(&json!(second.id)).await;
    let dead = dead["data"].as_array().expect("it is a list");
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert_eq!(dead[0]["last_outcome"], "filter", "{dead:?}");
    assert_eq!(of(&json!(first.id)).await["data"], json!([]));
    let counted = world
        .gauge(world.stack().worker(0), "penstock_filters_undecided_total")
        .await;
    assert_eq!(counted, Some(1.0));
    assert_eq!(world.deliveries_of(id).await.len(), 3);
    world.finish().await;
}

#[tokio::test]
async fn hostile_filters_and_payloads_are_decided() {
    let mut world = setup().start().await;
    let (hostile, healthy) = (world.organization().await, world.organization().await);
    let (receiver, neighbour) = (world.receiver().await, world.receiver().await);
    for number in 0..40 {
        let filter = json!({"filter": hostile_filter(number)});
        world.endpoint_with(&hostile, &receiver, filter).await;
    }
    world.endpoint(&healthy, &neighbour).await;
    let event = Event::new("a", hostile_payload());
    let id = world.producer(&hostile).send(&event).await;
    world.producer(&healthy).send(&Event::new("a", "1")).await;
    neighbour.wait_for(1).await;
    receiver.wait_for(40).await;
    world.settle().await;
    assert_eq!(world.deliveries_of(id).await.len(), 40);
    world.finish().await;
}

/// How long a busy machine may take to store a hundred thousand deliveries.
const BULKY: Duration = Duration::from_mins(2);

/// An organisation whose every event goes to `endpoints` endpoints that nobody pulls from.
async fn with_pull_endpoints(world: &World, endpoints: usize) -> e2e::Organization {
    let organization = world.organization().await;
    for _ in 0..endpoints {
        let request = call(world, &organization, Method::POST, "");
        let answer = request.json(&json!({"kind": "pull"})).send().await;
        assert_eq!(answer.expect("ingest-api answers").status(), 201);
    }
    organization
}

#[tokio::test]
async fn a_batch_for_many_endpoints_is_stored_beside_those_of_others() {
    let mut world = setup().start().await;
    let bulky = with_pull_endpoints(&world, 100).await;
    let healthy = world.organization().await;
    let neighbour = world.receiver().await;
    world.endpoint(&healthy, &neighbour).await;
    let events: Vec<_> = (0..1_000)
        .map(|number| json!({"type": "a", "data": number}))
        .collect();
    let batch = world.producer(&bulky).post("/v1/events/batch");
    let batch = batch.json(&events).send().await.expect("ingest-api answers");
    assert_eq!(batch.status(), 202);
    // It comes in the same stream, after the batch.
    let id = world.producer(&healthy).send(&Event::new("a", "1")).await;
    neighbour.wait_for(1).await;
    let waiting = "select count(*) from deliveries where event_id <> $1";
    let count = async |query: &'static str| -> i64 {
        let query = sqlx::query_scalar(query).bind(id.as_uuid());
        query.fetch_one(world.database()).await.expect("Postgres runs")
    };
    until_within(BULKY, "the whole batch to be stored", async || {
        match count(waiting).await {
            100_000 => Ok(()),
            count => Err(format!("{count} deliveries")),
        }
    })
    .await;
    world.until_event_is_stored(id).await;
    // Postgres numbers transactions as they begin to write.
    let later = "select count(*) from events where type = 'a'
                   and xmin::text::bigint > (select xmin::text::bigint from events where id = $1)";
    assert!(
        count(later).await > 0,
        "the neighbour's event waited for all of the batch"
    );
    world.finish().await;
}
