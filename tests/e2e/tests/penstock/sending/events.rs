//! What goes in comes out: once, under one id, with the same bytes, at the endpoints that want it.

use std::collections::HashMap;

use e2e::{Answer, Event, Webhook};
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
    let keyed = plain.clone().with_idempotency_key("order-1");
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
