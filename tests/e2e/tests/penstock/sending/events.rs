//! What goes in comes out: once, under one id, with the same bytes, at the endpoints that want it.

use std::collections::HashMap;

use e2e::{Answer, Event, Webhook, accepted};
use futures_util::future::join_all;
use serde_json::json;
use shared::domain::clock::UnixMicros;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::setup;

/// JSON that a parser and a printer do not give back as it was.
const PAYLOADS: &[&str] = &[
    "null",
    "{}",
    "-0",
    "1e400",
    "12345678901234567890",
    "0.10000000000000000000000000001",
    "1.00",
    r#"{"z":1,"a":2,"z":3}"#,
    "{ \"a\" :\t[ 1 ,\n  2 ] }",
    r#""\u0000""#,
    r#""\ud800 and \udc00\ud800""#,
    r#""\/\u002f\u00e9""#,
    "\"žluťoučký kůň 🦀 \u{2028}\"",
    r#""</script>""#,
];

#[tokio::test]
async fn sent_events_arrive_once_with_the_bytes_that_were_sent_and_a_valid_signature() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);

    let large = format!("\"{}\"", "x".repeat(200 * 1024));
    let deep = format!("{}{}", "[".repeat(64), "]".repeat(64));
    let payloads = PAYLOADS.iter().copied().chain([large.as_str(), deep.as_str()]);
    let events: Vec<_> = payloads
        .map(|data| Event::new("ordér.\"created\"", data))
        .collect();
    let before = UnixMicros::now().to_date_time();
    let ids = join_all(events.iter().map(|event| producer.send(event))).await;
    let sent: HashMap<_, _> = ids.into_iter().zip(&events).collect();
    assert_eq!(sent.len(), events.len(), "every event has its own id");

    world.settle().await;
    let webhooks = receiver.webhooks();
    assert_eq!(webhooks.len(), events.len());
    for webhook in &webhooks {
        let data = &sent[&webhook.id].data;
        check_body(webhook, data, before);
        assert_eq!(webhook.headers["content-type"], "application/json");
        assert_eq!(world.stored_data(webhook.id).await, [data.as_bytes()]);
    }
    world.finish().await;
}

/// The body is exactly what receivers are promised, and its time is that of the request.
fn check_body(webhook: &Webhook, data: &str, earliest: OffsetDateTime) {
    let body = webhook.parse();
    let expected = format!(
        r#"{{"id":"{}","type":"ordér.\"created\"","timestamp":"{}","data":{data}}}"#,
        webhook.id, body.timestamp,
    );
    assert_eq!(String::from_utf8_lossy(&webhook.body), expected);
    let accepted_at = OffsetDateTime::parse(body.timestamp, &Rfc3339);
    let accepted_at = accepted_at.expect("the time is one of RFC 3339");
    let now = UnixMicros::now().to_date_time();
    assert!(
        (earliest..now).contains(&accepted_at),
        "{earliest} {accepted_at} {now}"
    );
}

#[tokio::test]
async fn the_id_in_the_answer_is_the_id_that_is_stored_and_delivered() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let plain = Event::new("a", "1");
    let keyed = Event {
        idempotency_key: Some("order-1".to_owned()),
        ..plain.clone()
    };
    for event in [plain, keyed] {
        let id = producer.send(&event).await;
        let delivery = world.until_delivery_is(id, "delivered").await;
        let webhooks = receiver.webhooks_of(id);
        assert_eq!((delivery.attempts, webhooks.len()), (1, 1));
        assert_eq!(webhooks[0].headers["webhook-id"], id.to_string());
        assert_eq!(webhooks[0].parse().id, id);
        assert_eq!(world.stored_data(id).await.len(), 1);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_repeated_idempotency_key_has_one_id_and_one_delivery_on_every_replica_and_after_a_restart() {
    let mut world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let in_body = Event {
        idempotency_key: Some("order-1".to_owned()),
        ..Event::new("a", "1")
    };
    let plain = Event::new("a", "1");

    let mut ids = Vec::new();
    for restarted in [false, true] {
        if restarted {
            world.restart_everything().await;
        }
        for replica in [0, 1] {
            let producer = world.producer_at(&organization, replica);
            ids.push(producer.send(&in_body).await);
            for header in ["\"order-1\"", "order-1"] {
                let request = producer
                    .post_event(plain.body())
                    .header("idempotency-key", header);
                ids.push(accepted(request.send().await.unwrap()).await);
            }
        }
        world.settle().await;
    }
    assert_eq!(ids.len(), 12);
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    assert_eq!(receiver.count(), 1);
    assert_eq!(world.stored_data(ids[0]).await, [b"1"]);
    world.finish().await;
}

#[tokio::test]
async fn repeats_that_come_at_the_same_time_are_delivered_once() {
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let event = Event {
        idempotency_key: Some("order-1".to_owned()),
        ..Event::new("a", "1")
    };
    let producers = [
        world.producer_at(&organization, 0),
        world.producer_at(&organization, 1),
    ];
    let sends = (0..60).map(|count: usize| producers[count % 2].send(&event));
    let mut ids = join_all(sends).await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    world.settle().await;
    assert_eq!(receiver.count(), 1);
    assert_eq!(world.stored_data(ids[0]).await.len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn an_idempotency_key_that_comes_again_after_a_day_is_a_new_event_beside_the_old_one() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(204).held());
    let fields = json!({"timeout_ms": 30_000, "max_in_flight": 200});
    world.endpoint_with(&organization, &receiver, fields).await;
    let producer = world.producer(&organization);
    // Many, so that results of the old and of the new one are written together.
    let send = async || {
        let sends = (0..50).map(async |number| {
            let event = Event {
                idempotency_key: Some(format!("order-{number}")),
                ..Event::new("a", "1")
            };
            producer.send(&event).await
        });
        join_all(sends).await
    };
    let old = send().await;
    receiver.wait_for(50).await;
    let a_day = "update idempotency_keys set accepted_at = accepted_at - interval '24 hours'";
    sqlx::query(a_day).execute(world.database()).await.unwrap();
    assert_eq!(send().await, old);
    receiver.wait_for(100).await;
    receiver.release();
    world.settle().await;
    let deliveries = world.deliveries().await;
    assert_eq!(deliveries.len(), 100);
    assert!(
        deliveries
            .iter()
            .all(|delivery| delivery.status == "delivered" && delivery.attempts == 1)
    );
    assert_eq!(receiver.count(), 100);
    world.finish().await;
}

#[tokio::test]
async fn endpoints_get_the_event_types_they_ask_for() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let all = world.endpoint(&organization, &receiver).await;
    let filtered = async |types: &[&str]| {
        let fields = json!({"event_types": types});
        world.endpoint_with(&organization, &receiver, fields).await
    };
    let exact = filtered(&["order.created"]).await;
    let prefix = filtered(&["order.*"]).await;
    let either = filtered(&["user.created", "orders.*"]).await;
    let other = filtered(&["order"]).await;

    let producer = world.producer(&organization);
    let wanted = [
        ("order.created", vec![all.id, exact.id, prefix.id]),
        ("order.created.v2", vec![all.id, prefix.id]),
        ("orders.created", vec![all.id, either.id]),
        ("user.created", vec![all.id, either.id]),
        ("Order", vec![all.id]),
        ("order", vec![all.id, other.id]),
    ];
    for (kind, mut endpoints) in wanted {
        let id = producer.send(&Event::new(kind, "1")).await;
        world.settle().await;
        let webhooks = receiver.webhooks_of(id);
        let mut seen: Vec<_> = webhooks.iter().map(|webhook| webhook.endpoint).collect();
        seen.sort();
        endpoints.sort();
        assert_eq!(seen, endpoints, "{kind}");
    }
    world.finish().await;
}

#[tokio::test]
async fn an_endpoint_gets_every_event_that_is_sent_after_it_was_created() {
    let mut world = setup().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let producer = world.producer(&organization);
    let mut expected = Vec::new();
    for count in 0..50 {
        let kind = format!("kind.{count}");
        let fields = json!({"event_types": [kind]});
        let endpoint = world.endpoint_with(&organization, &receiver, fields).await;
        // Nothing in between: the workers have not looked at the endpoints since.
        let id = producer.send(&Event::new(&kind, "1")).await;
        expected.push((id, endpoint.id));
    }
    world.settle().await;
    let mut seen: Vec<_> = receiver
        .webhooks()
        .iter()
        .map(|webhook| (webhook.id, webhook.endpoint))
        .collect();
    seen.sort();
    expected.sort();
    assert_eq!(seen, expected);
    world.finish().await;
}

#[tokio::test]
async fn a_trace_context_goes_along_on_every_attempt_and_a_malformed_one_does_not() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| Answer::status(if webhook.number == 1 { 500 } else { 204 }));
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let event = Event::new("a", "1").body();
    let post = |path, body: &str| {
        let request = producer.post(path).header("content-type", "application/json");
        request.body(body.to_owned())
    };
    let context = |number: u8| format!("00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{number}-01");
    let requests = [
        post("/v1/events", &event).header("traceparent", context(0)),
        post("/v1/events/batch", &format!("[{event}]")).header("traceparent", context(1)),
        post("/api/events", r#"{"type":"a","payload":1}"#).header("traceparent", context(2)),
        post("/v1/events", &event).header("traceparent", "00-0-0-00"),
    ];
    for request in requests {
        assert_eq!(request.send().await.unwrap().status(), 202);
    }
    world.settle().await;
    let webhooks = receiver.webhooks();
    let mut carried: Vec<_> = webhooks
        .iter()
        .map(|webhook| webhook.headers.get("traceparent"))
        .map(|value| value.map(|value| value.to_str().unwrap().to_owned()))
        .collect();
    carried.sort();
    let expected = [None, Some(context(0)), Some(context(1)), Some(context(2))];
    assert_eq!(
        carried,
        expected.map(|context| [context.clone(), context]).concat()
    );
    world.finish().await;
}
