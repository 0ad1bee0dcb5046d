//! What a filter would let pass, before any event meets it.

use e2e::{Event, Organization, World};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::calls::{call, json as body, request};
use crate::setup;

/// The verdict on an order of a tenant's.
async fn test(world: &World, organization: &Organization, filter: Value) -> Value {
    let event =
        json!({"type": "order.created", "tenant": "acme", "data": {"total": 120, "coupon": "SUMMER-test"}});
    let test = request(world, 0, Method::POST, "/v1/filters/test", &organization.key);
    body(test.json(&json!({"filter": filter, "event": event}))).await
}

#[tokio::test]
async fn a_filter_is_tried_out_on_an_event_and_says_what_decides() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    for (filter, passes, decided_by) in [
        (json!({"/total": {"gte": 100, "lt": 110}}), false, "/~1total/lt"),
        (
            json!({"type": {"prefix": "order."}, "tenant": "acme", "any": [{"/total": 1}, {"/total": 120}]}),
            true,
            "/type/prefix",
        ),
        (
            json!({"any": [{"/total": 1}, {"not": {"/coupon": {"contains": "TEST", "ignore_case": true}}}]}),
            false,
            "/any/1/not/~1coupon/contains",
        ),
    ] {
        let verdict = test(&world, &organization, filter.clone()).await;
        assert_eq!(verdict["passes"], passes, "{filter}: {verdict}");
        assert_eq!(verdict["decided_by"], decided_by, "{filter}: {verdict}");
    }
    let own = json!({"filter": {"/endpoint_id": "x"}, "event": {"type": "endpoint.disabled", "data": {"endpoint_id": "x"}}});
    let test = request(&world, 0, Method::POST, "/v1/filters/test", &organization.key);
    assert_eq!(body(test.json(&own)).await["passes"], true);
    let many: Vec<_> = (0..65).map(|number| json!({"/a": number})).collect();
    let deep = (0..9).fold(json!({"/a": 1}), |inner, _| json!({"not": inner}));
    for (field, filter, event_type) in [
        ("filter", json!({"any": many}), "a"),
        ("filter", deep, "a"),
        ("filter", json!({"/a": {"prefix": 5}}), "a"),
        ("event.type", json!({"/a": 5}), "a b"),
    ] {
        let test = request(&world, 0, Method::POST, "/v1/filters/test", &organization.key);
        let wrong = json!({"filter": filter, "event": {"type": event_type, "data": 1}});
        let answer = test.json(&wrong).send().await.expect("ingest-api answers");
        assert_eq!(answer.status(), 422, "{wrong}");
        let problem: Value = answer.json().await.expect("it is JSON");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        if field == "filter" {
            let endpoint = json!({"kind": "pull", "filter": filter});
            let made = call(&world, &organization, Method::POST, "").json(&endpoint);
            assert_eq!(made.send().await.expect("ingest-api answers").status(), 422);
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn a_preview_lets_pass_what_workers_deliver() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (receiver, everything) = (world.receiver().await, world.receiver().await);
    let filter = json!({
        "any": [{"/total": {"gte": 100}}, {"/name": {"suffix": "VIP", "ignore_case": true}}],
        "not": {"/test": true}, "type": {"ne": "order.deleted"}
    });
    let filtered = json!({"event_types": ["order.*"], "filter": filter});
    let endpoint = world.endpoint_with(&organization, &receiver, filtered).await;
    world.endpoint(&organization, &everything).await;
    let producer = world.producer(&organization);
    let mut sent = Vec::new();
    for (event_type, data, passes) in [
        ("order.created", r#"{"total":100}"#, true),
        ("order.created", r#"{"total":99}"#, false),
        ("order.created", r#"{"total":1,"name":"Eva vip"}"#, true),
        ("order.created", r#"{"total":500,"test":true}"#, false),
        ("order.deleted", r#"{"total":500}"#, false),
    ] {
        sent.push((producer.send(&Event::new(event_type, data)).await, passes));
    }
    producer
        .send(&Event::new("invoice.paid", r#"{"total":500}"#))
        .await;
    let of_tenant = Event::new("order.created", r#"{"total":500}"#).of_tenant("acme");
    producer.send(&of_tenant).await;
    everything.wait_for(6).await;
    world.settle().await;

    let path = format!("/{}/filter/preview", endpoint.id);
    let preview = body(call(&world, &organization, Method::POST, &path)).await;
    assert_eq!(preview["looked_at"], 7);
    let events = preview["events"].as_array().expect("there are events");
    let mut previewed: Vec<(EventId, bool)> = events
        .iter()
        .map(|event| {
            let id = event["id"].as_str().expect("an event has an id").parse();
            (id.expect("it is one"), event["passes"] == true)
        })
        .collect();
    previewed.reverse();
    assert_eq!(previewed, sent);
    let delivered: Vec<_> = receiver.webhooks().iter().map(|webhook| webhook.id).collect();
    let passed = sent.iter().filter(|(_, passes)| *passes);
    for (id, _) in passed.clone() {
        assert!(delivered.contains(id));
    }
    assert_eq!(delivered.len(), passed.count());

    let other = json!({"filter": {"/total": 99}, "events": 7});
    let preview = body(call(&world, &organization, Method::POST, &path).json(&other)).await;
    let passing = preview["events"].as_array().expect("there are events").iter();
    let passing: Vec<_> = passing.filter(|event| event["passes"] == true).collect();
    assert_eq!(passing.len(), 1);
    assert_eq!(passing[0]["id"], json!(sent[1].0));
    let newest = json!({"filter": {"/total": 99}, "events": 1});
    let preview = body(call(&world, &organization, Method::POST, &path).json(&newest)).await;
    assert_eq!(
        (&preview["looked_at"], &preview["events"]),
        (&json!(1), &json!([]))
    );
    world.finish().await;
}
