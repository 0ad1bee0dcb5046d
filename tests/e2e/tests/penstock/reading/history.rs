//! Reading back what became of events.

use e2e::{Answer, Event, Organization, World, until};
use serde_json::{Value, json};
use shared::domain::id::EventId;

use crate::setup;

async fn get(world: &World, organization: &Organization, path: &str) -> (u16, Value) {
    let (status, text) = get_text(world, organization, path).await;
    (status, serde_json::from_str(&text).expect("the answer is JSON"))
}

async fn get_text(world: &World, organization: &Organization, path: &str) -> (u16, String) {
    let request = world.http().get(world.url(path)).bearer_auth(&organization.key);
    let response = request.send().await.expect("ingest-api answers");
    (
        response.status().as_u16(),
        response.text().await.expect("an answer has a whole body"),
    )
}

async fn list(world: &World, organization: &Organization, query: &str) -> (Vec<EventId>, Option<String>) {
    let (status, page) = get(world, organization, &format!("/v1/events?{query}")).await;
    assert_eq!(status, 200, "{page}");
    let next = page["next_cursor"].as_str().map(str::to_owned);
    let events = page["data"].as_array().expect("a page has events");
    let ids = events
        .iter()
        .map(|event| serde_json::from_value(event["id"].clone()).expect("an event has an id"));
    (ids.collect(), next)
}

#[tokio::test]
async fn an_outcome_of_a_later_release_is_an_error_that_names_it_and_no_other_outcome() {
    let mut world = setup().start().await;
    let message = "`galactic` is no outcome that this release knows";
    world.tolerate(message);
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "delivered").await;
    sqlx::query("update deliveries set last_outcome = 'galactic' where event_id = $1")
        .bind(id)
        .execute(world.database())
        .await
        .expect("Postgres answers");
    // The document has no answer for a defect, so the checked client would not take it.
    let unchecked = reqwest::Client::builder().no_proxy().tls_certs_only([]);
    let request = unchecked
        .build()
        .unwrap()
        .get(world.url(&format!("/v1/events/{id}")));
    let answer = request.bearer_auth(&organization.key).send().await.unwrap();
    assert_eq!(answer.status(), 500);
    until("the log to name it", async || {
        let log = world.stack().ingest(0).log();
        log.contains(message)
            .then_some(())
            .ok_or_else(|| "it does not".to_owned())
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn an_event_is_shown_with_its_bytes_its_deliveries_and_their_attempts() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| match webhook.number {
        1 => Answer::status(500),
        _ => Answer::status(204),
    });
    let endpoint = world.endpoint(&organization, &receiver).await;
    let data = r#"{"b" : 1e400, "a": 12345678901234567890, "s": "\u0000"}"#;
    let event = Event::new("order.created", data).with_idempotency_key("k");
    let producer = world.producer(&organization);
    for event in [&event, &Event::new("order.created", data)] {
        let id = producer.send(event).await;
        world.until_delivery_is(id, "delivered").await;
        let (status, text) = get_text(&world, &organization, &format!("/v1/events/{id}")).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains(&format!(r#""data":{data}"#)), "{text}");
        // 1e400 does not fit into a number.
        let shown: Value = serde_json::from_str(&text.replace("1e400", "1")).unwrap();
        assert_eq!(
            shown["idempotency_key"].as_str(),
            event.idempotency_key.as_deref()
        );
        let delivery = &shown["deliveries"][0];
        assert_eq!(delivery["endpoint_id"], json!(endpoint.id));
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("delivered"), &json!(2))
        );
        let log: Vec<_> = delivery["attempt_log"]
            .as_array()
            .unwrap()
            .iter()
            .map(|a| &a["response_status"])
            .collect();
        assert_eq!(log, [&json!(500), &json!(204)]);
    }
    world.finish().await;
}

#[tokio::test]
async fn pages_lead_through_all_events_newest_first() {
    const EVENTS: usize = 25;
    let world = setup().start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let mut sent = Vec::new();
    for number in 0..EVENTS {
        sent.push(producer.send(&Event::new("a", number.to_string())).await);
    }
    until("all events to be stored", async || {
        let (ids, _) = list(&world, &organization, "limit=100").await;
        if ids.len() == EVENTS {
            Ok(())
        } else {
            Err(ids.len().to_string())
        }
    })
    .await;
    let (mut seen, mut query) = (Vec::new(), "limit=10".to_owned());
    loop {
        let (page, next) = list(&world, &organization, &query).await;
        assert!(page.len() <= 10);
        seen.extend(page);
        match next {
            Some(cursor) => query = format!("limit=10&cursor={cursor}"),
            None => break,
        }
    }
    sent.reverse();
    assert_eq!(seen, sent);
    world.finish().await;
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_loses_none() {
    const EVENTS: usize = 25;
    let world = setup().start().await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let data = format!("\"{}\"", "x".repeat(250 * 1024));
    for _ in 0..EVENTS {
        producer.send(&Event::new("a", data.as_str())).await;
    }
    world.streams_are_drained().await;
    let (first, next) = list(&world, &organization, "limit=100").await;
    assert!((1..EVENTS).contains(&first.len()), "{}", first.len());
    let (second, end) = list(
        &world,
        &organization,
        &format!("limit=100&cursor={}", next.unwrap()),
    )
    .await;
    assert_eq!((first.len() + second.len(), end), (EVENTS, None));
    world.finish().await;
}

#[tokio::test]
async fn events_are_found_by_type_time_status_and_endpoint() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let organization = world.organization().await;
    let (good, bad) = (world.receiver().await, world.receiver().await);
    bad.answer(|_| Answer::status(500));
    let good = world
        .endpoint_with(&organization, &good, json!({"event_types": ["a"]}))
        .await;
    let bad = world
        .endpoint_with(&organization, &bad, json!({"event_types": ["b"]}))
        .await;
    let producer = world.producer(&organization);
    let (a, b) = (
        producer.send(&Event::new("a", "1")).await,
        producer.send(&Event::new("b", "1")).await,
    );
    world.until_delivery_is(a, "delivered").await;
    world.until_delivery_is(b, "dead").await;
    for (query, expected) in [
        ("type=a".to_owned(), vec![a]),
        ("status=dead".to_owned(), vec![b]),
        ("status=delivered".to_owned(), vec![a]),
        ("status=pending".to_owned(), vec![]),
        (format!("endpoint={}", good.id), vec![a]),
        (format!("endpoint={}&status=delivered", bad.id), vec![]),
        ("from=2020-01-01T00:00:00Z".to_owned(), vec![b, a]),
        ("to=2020-01-01T00:00:00Z".to_owned(), vec![]),
    ] {
        assert_eq!(list(&world, &organization, &query).await.0, expected, "{query}");
    }
    for wrong in [
        "limit=0",
        "limit=101",
        "cursor=x",
        "status=lost",
        "from=noon",
        "endpoint=x",
        "colour=red",
    ] {
        let (status, problem) = get(&world, &organization, &format!("/v1/events?{wrong}")).await;
        let field = wrong.split_once('=').unwrap().0;
        assert_eq!(status, 422, "{wrong}: {problem}");
        assert!(
            problem["errors"].to_string().contains(field),
            "{wrong}: {problem}"
        );
    }
    world.finish().await;
}
