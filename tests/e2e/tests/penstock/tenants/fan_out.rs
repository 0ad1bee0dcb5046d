//! Which endpoints get the events of which tenants, and what they are told.

use std::collections::BTreeSet;

use e2e::{Answer, Endpoint, Receiver};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use super::{send, tenant};
use crate::calls::{self, request};
use crate::setup;

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

/// What an endpoint was sent of an event.
pub(super) fn body(receiver: &Receiver, endpoint: Endpoint, id: EventId) -> Value {
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
    let lost = world
        .gauge(lost, "penstock_tenant_events_without_endpoint_total")
        .await;
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
    world.until_event_is_stored(event).await;
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
