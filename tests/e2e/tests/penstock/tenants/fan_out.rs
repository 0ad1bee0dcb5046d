//! Which endpoints get the events of which tenants, and what they are told.

use std::collections::BTreeSet;

use e2e::{Answer, Endpoint, Event, Receiver, accepted, until};
use futures_util::StreamExt as _;
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;
use shared::wire::{frame, stream};

use super::{send, send_body, tenant};
use crate::calls::{self, request};
use crate::{setup, world};

fn endpoints_of(receiver: &Receiver, id: EventId) -> BTreeSet<String> {
    let webhooks = receiver.webhooks_of(id);
    webhooks
        .iter()
        .map(|webhook| webhook.endpoint.to_string())
        .collect()
}

fn ids<const N: usize>(endpoints: [Endpoint; N]) -> BTreeSet<String> {
    endpoints.iter().map(|endpoint| endpoint.id.to_string()).collect()
}

fn body(receiver: &Receiver, endpoint: Endpoint, id: EventId) -> Value {
    let webhooks = receiver.webhooks_of(id);
    let of_endpoint = webhooks.iter().find(|webhook| webhook.endpoint == endpoint.id);
    serde_json::from_slice(&of_endpoint.expect("it came").body).expect("a webhook is JSON")
}

#[tokio::test]
async fn an_event_goes_to_the_endpoints_of_its_tenant_and_to_those_of_all_and_only_these_are_told_whose_it_is()
 {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let own = world.endpoint(&organization, &receiver).await;
    let of_one = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "one"}))
        .await;
    let of_two = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "two"}))
        .await;
    let of_all = json!({"all_tenants": true});
    let all = world.endpoint_with(&organization, &receiver, of_all).await;
    let of_all = json!({"all_tenants": true, "format": "cloudevents"});
    let all_in_cloudevents = world.endpoint_with(&organization, &receiver, of_all).await;

    let producer = world.producer(&organization);
    let of = async |tenant| send(&producer, tenant, "1").await;
    let (none, one, two) = (of(None).await, of(Some("one")).await, of(Some("two")).await);
    let unknown = of(Some("nobody")).await;
    world.settle().await;
    let everywhere = [all, all_in_cloudevents];
    assert_eq!(
        endpoints_of(&receiver, none),
        ids([own, everywhere[0], everywhere[1]])
    );
    assert_eq!(
        endpoints_of(&receiver, one),
        ids([of_one, everywhere[0], everywhere[1]])
    );
    assert_eq!(
        endpoints_of(&receiver, two),
        ids([of_two, everywhere[0], everywhere[1]])
    );
    assert_eq!(endpoints_of(&receiver, unknown), ids(everywhere));
    let lost = world.stack().worker(0);
    let lost = world.gauge(lost, "tenant_events_without_endpoint_total").await;
    assert_eq!(lost, Some(1.0));

    assert_eq!(body(&receiver, of_one, one).get("tenant"), None);
    for endpoint in everywhere {
        assert_eq!(body(&receiver, endpoint, one)["tenant"], "one");
        assert_eq!(body(&receiver, endpoint, unknown)["tenant"], "nobody");
        assert_eq!(body(&receiver, endpoint, none).get("tenant"), None);
    }
    let path = format!("/v1/events/{one}");
    let shown = calls::json(request(&world, 0, Method::GET, &path, &organization.key)).await;
    assert_eq!(shown["tenant"], "one");
    world.finish().await;
}

#[tokio::test]
async fn tenants_stand_in_batches_and_in_cloudevents_of_every_form() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let everywhere = world
        .endpoint_with(&organization, &receiver, json!({"all_tenants": true}))
        .await;
    let producer = world.producer(&organization);
    let batch = json!([
        {"type": "a", "data": 1, "tenant": "one"},
        {"type": "a", "data": 2},
        {"type": "a", "data": 3, "tenant": "two"},
    ]);
    let sent = producer.post("/v1/events/batch").json(&batch).send().await;
    let sent = sent.expect("ingest-api answers");
    assert_eq!(sent.status(), 202);
    let outcome: Value = sent.json().await.expect("the answer is JSON");

    let cloudevent =
        |id: &str| json!({"specversion": "1.0", "id": id, "source": "/s", "type": "a", "tenant": "one"});
    let structured = producer
        .post("/v1/events")
        .header("content-type", "application/cloudevents+json")
        .body(cloudevent("1").to_string());
    let structured = accepted(structured.send().await.expect("ingest-api answers")).await;
    let binary = producer
        .post("/v1/events")
        .header("ce-specversion", "1.0")
        .header("ce-id", "2")
        .header("ce-source", "/s")
        .header("ce-type", "a")
        .header("ce-tenant", "two")
        .header("content-type", "text/plain")
        .body("x");
    let binary = accepted(binary.send().await.expect("ingest-api answers")).await;
    world.settle().await;
    assert_eq!(body(&receiver, everywhere, structured)["tenant"], "one");
    assert_eq!(body(&receiver, everywhere, binary)["tenant"], "two");
    let mut in_batch: Vec<_> = outcome["results"]
        .as_array()
        .expect("results are a list")
        .iter()
        .map(|result| {
            let id = calls::text(result, "id").parse().expect("an id");
            body(&receiver, everywhere, id)["tenant"].clone()
        })
        .collect();
    assert_eq!(in_batch.remove(1), Value::Null);
    assert_eq!(in_batch, ["one", "two"]);
    world.finish().await;
}

#[tokio::test]
async fn equal_idempotency_keys_of_two_tenants_are_two_events_and_that_of_no_tenant_keeps_its_id() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let send = async |tenant: Option<&str>| {
        let body = json!({"type": "a", "data": 1, "idempotency_key": "k", "tenant": tenant});
        send_body(&producer, &body).await
    };
    let (none, one, two) = (send(None).await, send(Some("one")).await, send(Some("two")).await);
    assert_eq!(none, EventId::for_key(organization.id, None, "k"));
    assert_eq!(send(Some("one")).await, one);
    assert_eq!(BTreeSet::from([none, one, two]).len(), 3);
    world.finish().await;
}

#[tokio::test]
async fn a_disabled_tenants_endpoints_get_nothing_until_it_is_enabled_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    tenant(&world, &organization, "one", json!({})).await;
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "one"}))
        .await;
    let all = json!({"all_tenants": true});
    let all = world.endpoint_with(&organization, &receiver, all).await;
    let producer = world.producer(&organization);
    tenant(&world, &organization, "one", json!({"status": "disabled"})).await;
    let meanwhile = send(&producer, Some("one"), "1").await;
    world.settle().await;
    assert_eq!(endpoints_of(&receiver, meanwhile), ids([all]));
    // An endpoint that is made meanwhile gets nothing either.
    let late = world
        .endpoint_with(&organization, &receiver, json!({"tenant": "one"}))
        .await;
    let meanwhile = send(&producer, Some("one"), "2").await;
    world.settle().await;
    assert_eq!(endpoints_of(&receiver, meanwhile), ids([all]));
    tenant(&world, &organization, "one", json!({})).await;
    let after = send(&producer, Some("one"), "3").await;
    world.settle().await;
    assert_eq!(endpoints_of(&receiver, after), ids([endpoint, late, all]));
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_knows_no_tenants_cannot_read_a_frame_with_an_event_of_one() {
    let mut world = world().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    send(&producer, None, "1").await;
    send(&producer, Some("one"), "2").await;
    let jetstream = world.jetstream().await;
    let stream = jetstream
        .get_stream(stream::name(0))
        .await
        .expect("the stream is there");
    let mut versions = Vec::new();
    for sequence in 1..=2 {
        let message = stream
            .get_raw_message(sequence)
            .await
            .expect("the frame is there");
        let version = message.headers.get(frame::VERSION_HEADER);
        versions.push(version.expect("a frame has a version").as_str().to_owned());
    }
    assert_eq!(versions, [frame::VERSION, frame::VERSION_WITH_TENANTS]);
    world.stack_mut().add_worker().await.expect("a worker starts");
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn an_ordering_key_is_one_of_its_tenant() {
    let mut world = setup()
        .ingest_env("EVENT_STREAMS", "3")
        .worker_env("RETRY_INITIAL", "1h")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| {
        let body: Value = serde_json::from_slice(&webhook.body).unwrap_or_default();
        Answer::status(if body["tenant"] == "failing" { 500 } else { 204 })
    });
    let fields = json!({"all_tenants": true, "ordered": true, "on_exhausted": "block"});
    world.endpoint_with(&organization, &receiver, fields).await;
    let producer = world.producer(&organization);
    let send = async |tenant: &str| {
        let body = json!({"type": "a", "data": 1, "ordering_key": "k", "tenant": tenant});
        send_body(&producer, &body).await
    };
    let (blocking, behind) = (send("failing").await, send("failing").await);
    receiver.wait_for(1).await;
    let (first, second) = (send("other").await, send("other").await);
    for id in [first, second] {
        world.until_delivery_is(id, "delivered").await;
    }
    let taken: Vec<_> = receiver
        .webhooks()
        .iter()
        .filter(|webhook| webhook.was_taken())
        .map(|webhook| webhook.id)
        .collect();
    assert_eq!(taken, [first, second]);
    let waiting = world.until_delivery_is(behind, "pending").await;
    assert_eq!((waiting.attempts, receiver.webhooks_of(blocking).len()), (0, 1));
    receiver.answer(|_| Answer::status(204));
    let path = format!("/v1/events/{blocking}/replay");
    let replay = request(&world, 0, Method::POST, &path, &organization.key);
    assert_eq!(calls::status(replay).await, 202);
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn what_penstock_tells_of_a_tenants_endpoint_goes_to_that_tenant_and_to_the_endpoints_of_all() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let failing = world.receiver().await;
    failing.answer(|_| Answer::status(500));
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let told = |mut fields: Value| {
        fields["event_types"] = json!(["delivery.dead"]);
        fields
    };
    let subscribe = async |fields| world.endpoint_with(&organization, &receiver, told(fields)).await;
    let of_one = subscribe(json!({"tenant": "one"})).await;
    let of_all = subscribe(json!({"all_tenants": true})).await;
    subscribe(json!({"tenant": "two"})).await;
    subscribe(json!({})).await;
    world
        .endpoint_with(
            &organization,
            &failing,
            json!({"tenant": "one", "event_types": ["a"]}),
        )
        .await;
    let dead = send(&world.producer(&organization), Some("one"), "1").await;
    world.until_delivery_is(dead, "dead").await;
    receiver.wait_for(2).await;
    world.settle().await;
    let webhooks = receiver.webhooks();
    let got: BTreeSet<_> = webhooks
        .iter()
        .map(|webhook| webhook.endpoint.to_string())
        .collect();
    assert_eq!(got, ids([of_one, of_all]));
    world.finish().await;
}

#[tokio::test]
async fn a_pull_endpoint_of_a_tenant_gets_its_events_with_its_name() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let endpoint = json!({"kind": "pull", "tenant": "one", "create_tenant": true});
    let made = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key).json(&endpoint);
    let made = calls::json(made).await;
    let producer = world.producer(&organization);
    send(&producer, None, "1").await;
    let event = send(&producer, Some("one"), "2").await;
    let path = format!("/v1/endpoints/{}", calls::text(&made, "id"));
    let pull = json!({"max": 10, "wait_seconds": 10});
    let pull = request(
        &world,
        0,
        Method::POST,
        &format!("{path}/pull"),
        &organization.key,
    )
    .json(&pull);
    let pulled = calls::json(pull).await;
    let deliveries = pulled["deliveries"].as_array().expect("deliveries are a list");
    assert_eq!(deliveries.len(), 1);
    assert_eq!(
        (&deliveries[0]["event"]["id"], &deliveries[0]["event"]["tenant"]),
        (&json!(event), &json!("one"))
    );
    let ack = json!({"leases": [deliveries[0]["lease"]]});
    let ack = request(&world, 0, Method::POST, &format!("{path}/ack"), &organization.key).json(&ack);
    calls::json(ack).await;
    world.finish().await;
}

#[tokio::test]
async fn an_event_is_replayed_only_to_endpoints_that_get_the_events_of_its_tenant() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let event = send(&world.producer(&organization), Some("one"), "1").await;
    until("the event to be stored", async || {
        if world.stored_data(event).await.is_empty() {
            Err("not yet".to_owned())
        } else {
            Ok(())
        }
    })
    .await;
    let add = async |fields| world.endpoint_with(&organization, &receiver, fields).await;
    let (one, two) = (
        add(json!({"tenant": "one"})).await,
        add(json!({"tenant": "two"})).await,
    );
    let all = add(json!({"all_tenants": true})).await;
    let path = format!("/v1/events/{event}/replay");
    let mut answers = Vec::new();
    for endpoint in [one, two, all] {
        let replay = request(&world, 0, Method::POST, &path, &organization.key);
        answers.push(
            calls::status(replay.json(&json!({"endpoint_id": endpoint.id})))
                .await
                .as_u16(),
        );
    }
    assert_eq!(answers, [202, 422, 202]);
    world.settle().await;
    assert_eq!(endpoints_of(&receiver, event), ids([one, all]));
    world.finish().await;
}

#[tokio::test]
async fn one_organisations_events_use_every_stream_and_those_of_one_key_stay_together() {
    const STREAMS: u32 = 3;
    let mut world = setup()
        .replicas(1, 0)
        .ingest_env("EVENT_STREAMS", &STREAMS.to_string())
        .start()
        .await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    for number in 0..40 {
        producer.send(&Event::new("a", number.to_string())).await;
    }
    let jetstream = world.jetstream().await;
    let frames = async || {
        let infos: Vec<_> = jetstream.streams().collect().await;
        let infos = infos.into_iter().map(|info| info.expect("nats-server runs"));
        let mut frames: Vec<_> = infos
            .filter(|info| info.config.name.starts_with(stream::NAME_PREFIX))
            .map(|info| (info.config.name, info.state.messages))
            .collect();
        frames.sort();
        frames
    };
    let before = frames().await;
    assert_eq!(before.len(), STREAMS as usize);
    assert!(before.iter().all(|(_, messages)| *messages > 0), "{before:?}");
    for _ in 0..10 {
        send_body(&producer, &json!({"type": "a", "data": 1, "ordering_key": "k"})).await;
    }
    let grown = frames().await.into_iter().zip(before);
    let grown: Vec<_> = grown.map(|((_, after), (_, before))| after - before).collect();
    let mut sorted = grown.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [0, 0, 10], "{grown:?}");
    world.stack_mut().add_worker().await.expect("a worker starts");
    world.settle().await;
    world.finish().await;
}
