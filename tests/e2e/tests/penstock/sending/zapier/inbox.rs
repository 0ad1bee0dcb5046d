//! The inbox: its pages, and who acknowledges what.

use e2e::Answer;
use serde_json::{Value, json};

use super::{Client, id, read, text, world};
use crate::calls::same_answer;
use crate::setup;

#[tokio::test]
async fn the_inbox_tells_what_became_of_the_webhook() {
    let mut world = setup()
        .ingest_env("ALLOW_SIGNUP", "true")
        .worker_env("RETRY_ATTEMPTS", "2")
        .start()
        .await;
    let client = Client::new(&world).await;
    let event = json!({"type": "a", "payload": 1});
    let without = client.send(&event).await;
    client.until_stored(without).await;
    let receiver = world.receiver().await;
    receiver.answer(|webhook| match (webhook.parse().data.get(), webhook.number) {
        ("2", _) | ("3", 1) => Answer::status(503),
        _ => Answer::status(200),
    });
    let endpoint = client.set_webhook(&receiver).await;
    let dead = client.send(&json!({"type": "a", "payload": 2})).await;
    let retried = client.send(&json!({"type": "a", "payload": 3})).await;
    world.settle().await;

    let inbox = client.inbox("").await;
    let shown: Vec<_> = inbox["events"]
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let fields = [
                "payload",
                "status",
                "delivery_status",
                "attempts",
                "response_status",
                "last_error",
            ];
            fields.map(|field| event[field].to_string()).join(" ")
        })
        .collect();
    insta::assert_snapshot!(shown.join("\n"), @r#"
    3 "delivered" "delivered" 2 200 null
    2 "pending" "dead" 2 503 "the receiver answered 503"
    1 "pending" null 0 null null
    "#);
    assert_eq!(client.ids("status=pending").await, [dead, without]);
    assert_eq!(client.ids("status=delivered").await, [retried]);

    // A new URL keeps the endpoint, its secret, and no second one comes into being.
    let path = receiver.new_path();
    let again = json!({"webhook_url": receiver.url(&path)});
    let mut replaced = read(client.post("/api/webhook/config").json(&again), 200).await;
    assert_eq!(text(&replaced["endpoint_id"]), endpoint);
    assert_eq!(text(&replaced["webhook_url"]), receiver.url(&path));
    (replaced["endpoint_id"], replaced["webhook_url"]) = (json!("…"), json!("…"));
    insta::assert_snapshot!(replaced, @r#"{"endpoint_id":"…","success":true,"webhook_url":"…"}"#);
    let listed = read(client.get("/v1/endpoints"), 200).await;
    assert_eq!(listed["data"].as_array().unwrap().len(), 1);
    assert_eq!(text(&listed["data"][0]["url"]), receiver.url(&path));
    world.finish().await;
}

#[tokio::test]
async fn only_its_owner_can_acknowledge_an_event() {
    let world = world().await;
    let (owner, stranger) = (Client::new(&world).await, Client::new(&world).await);
    let events = [
        owner.send(&json!({"type": "a", "payload": 1})).await,
        owner
            .send(&json!({"type": "a", "payload": 1, "dedup_id": "k"}))
            .await,
    ];
    for event in events {
        owner.until_stored(event).await;
    }
    let unknown = "01890a5d-ac96-774b-bcce-b302099a8057".to_owned();
    let ids = events.map(|event| event.to_string()).into_iter();
    let ids: Vec<_> = ids.chain([unknown, "x".to_owned()]).collect();
    let requests = ids.iter().map(|id| stranger.post(&format!("/api/ack/{id}")));
    insta::assert_snapshot!(same_answer(requests).await, @r#"
    404 Not Found
    content-type: application/json

    {"error":"there is nothing here under this path"}
    "#);
    assert!(stranger.ids("").await.is_empty());
    assert_eq!(owner.ids("status=pending").await.len(), 2);
    for event in events {
        read(owner.post(&format!("/api/ack/{event}")), 200).await;
    }
    assert!(owner.ids("status=pending").await.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn pages_lead_through_the_inbox_by_cursor_and_by_offset() {
    const EVENTS: usize = 25;
    let world = world().await;
    let client = Client::new(&world).await;
    let mut sent = Vec::new();
    for number in 0..EVENTS {
        sent.push(client.send(&json!({"type": "a", "payload": number})).await);
    }
    world.streams_are_drained().await;
    for event in sent.iter().step_by(2) {
        read(client.post(&format!("/api/ack/{event}")), 200).await;
    }
    sent.reverse();
    let pending: Vec<_> = sent.iter().copied().skip(1).step_by(2).collect();
    for (filter, expected) in [("", &sent), ("&status=pending", &pending)] {
        let (mut seen, mut query) = (Vec::new(), format!("limit=4{filter}"));
        loop {
            let page = client.inbox(&query).await;
            let events = page["events"].as_array().unwrap();
            assert!(events.len() <= 4);
            seen.extend(events.iter().map(id));
            match page["next_cursor"].as_str() {
                Some(cursor) => query = format!("limit=4&cursor={cursor}{filter}"),
                None => break,
            }
        }
        assert_eq!(seen, *expected);
        let mut seen = Vec::new();
        for offset in (0..EVENTS).step_by(4) {
            seen.extend(client.ids(&format!("limit=4&offset={offset}{filter}")).await);
        }
        assert_eq!(seen, *expected);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_page_of_large_events_ends_early_and_loses_none() {
    const EVENTS: usize = 25;
    let world = world().await;
    let client = Client::new(&world).await;
    for _ in 0..EVENTS {
        client
            .send(&json!({"type": "a", "payload": "x".repeat(250 * 1024)}))
            .await;
    }
    world.streams_are_drained().await;
    let first = client.inbox("limit=1000").await;
    let count = first["events"].as_array().unwrap().len();
    assert_eq!(count, 16);
    let cursor = text(&first["next_cursor"]);
    assert_eq!(client.ids(&format!("limit=1000&cursor={cursor}")).await.len(), 9);
    assert_eq!(client.ids("limit=1000&offset=20").await.len(), 5);
    world.finish().await;
}

#[tokio::test]
async fn what_is_pending_behind_ten_thousand_acknowledged_events_is_found_by_the_cursor() {
    let world = world().await;
    let client = Client::new(&world).await;
    let oldest = client.send(&json!({"type": "a", "payload": 1})).await;
    client.until_stored(oldest).await;
    let fill = sqlx::raw_sql(
        "with new as (
             insert into events (org_id, accepted_at, id, type, content_type, data)
             select org_id, accepted_at + n * interval '1 millisecond', gen_random_uuid(), type, content_type, data
             from events, generate_series(1, 10000) n
             returning org_id, accepted_at, id
         )
         insert into inbox_acknowledgements (org_id, accepted_at, event_id) select * from new",
    );
    fill.execute(world.database()).await.unwrap();
    let first = client.inbox("status=pending").await;
    assert_eq!(first["events"], json!([]));
    let query = format!("status=pending&cursor={}", text(&first["next_cursor"]));
    let second = client.inbox(&query).await;
    assert_eq!(id(&second["events"][0]), oldest);
    assert_eq!(second["next_cursor"], Value::Null);
    world.finish().await;
}
