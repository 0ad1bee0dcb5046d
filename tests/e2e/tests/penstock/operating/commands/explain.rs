//! The story of one event: on the command line and in the admin API.

use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{Answer, Event, World, until};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use shared::domain::id::EventId;

use super::worker_command;
use crate::calls::{json, request, status};
use crate::setup;

/// Length of a time as Penstock writes it.
const TIME: usize = "2026-01-02T03:04:05.123456Z".len();

/// Puts `<time>` and `<n>` where times and durations stand.
fn without_times(text: &str) -> String {
    let lines = text.split('\n').map(|line| {
        let all: Vec<_> = line.split(' ').collect();
        let words = all.iter().enumerate().map(|(index, word)| {
            let plain = word.trim_end_matches(['.', ',', ';']);
            let mark = &word[plain.len()..];
            if plain.len() == TIME && plain.as_bytes()[10] == b'T' {
                format!("<time>{mark}")
            } else if all.get(index + 1).is_some_and(|next| next.starts_with("ms")) {
                "<n>".to_owned()
            } else {
                (*word).to_owned()
            }
        });
        words.collect::<Vec<_>>().join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What the command prints.
async fn explained(world: &World, id: &str) -> (Option<i32>, String, String) {
    let mut command = worker_command(world, "explain");
    let output = command.arg(id).env_remove("NATS_URL").output().await;
    let output = output.expect("the program can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The part of the API's answer that is about one endpoint.
async fn story(world: &World, id: EventId, endpoint: &Value) -> Vec<String> {
    let path = format!("/admin/v1/events/{id}/explain");
    let answer = json(request(world, 0, Method::GET, &path, world.stack().admin_token())).await;
    let endpoints = answer["endpoints"].as_array().expect("there are some");
    let mut own = endpoints.iter().filter(|each| each["endpoint_id"] == *endpoint);
    let lines = own.next().expect("it is told of")["story"].as_array();
    let lines = lines.expect("it is a list").iter();
    lines
        .map(|line| without_times(line.as_str().expect("a sentence")))
        .collect()
}

#[tokio::test]
async fn an_event_that_failed_twice_is_explained_to_its_end() {
    let mut world = setup().start().await;
    let organization = world
        .organization_with(&json!({"name": "Acme", "tier": "enterprise"}))
        .await;
    let receiver = world.receiver().await;
    let tries = AtomicUsize::new(0);
    receiver.answer(move |_| match tries.fetch_add(1, Ordering::Relaxed) {
        0 => Answer::status(500),
        1 => Answer::status(503),
        _ => Answer::status(204).held(),
    });
    let patient = json!({"timeout_ms": 30_000});
    let wanting = world.endpoint_with(&organization, &receiver, patient).await.id;
    let others = [
        json!({"event_types": ["user.*", "a"]}),
        json!({"filter": {"/total": {"gte": 100}}}),
        json!({"tenant": "t", "create_tenant": true}),
        json!({"status": "disabled"}),
    ];
    let mut ids = vec![wanting];
    for fields in others {
        ids.push(world.endpoint_with(&organization, &receiver, fields).await.id);
    }
    let event = Event::new("order.created", r#"{"total": 99}"#).with_idempotency_key("k");
    let id = world.producer(&organization).send(&event).await;
    receiver.wait_for(3).await;
    // The second result may still be on its way into the table.
    until("two attempts to be recorded", async || {
        let count = world.attempts_of(id).await.len();
        (count == 2).then_some(()).ok_or_else(|| count.to_string())
    })
    .await;

    let (code, text, _) = explained(&world, &id.to_string()).await;
    assert_eq!(code, Some(0));
    let mut text = without_times(&text).replace(&id.to_string(), "<id>");
    for (number, endpoint) in ids.iter().enumerate() {
        text = text.replace(&endpoint.to_string(), &format!("<endpoint {number}>"));
    }
    insta::assert_snapshot!(text, @"
    event <id>
      It was accepted at <time>, as `order.created`, with a key of organisation `Acme`.
      Its id comes from the idempotency key `k`.
      A worker took it out of its stream and stored it at <time>.
      It goes to 1 endpoint.
    endpoint <endpoint 0> gets it
      Attempt 1 at <time> took <n> ms: status, status 500.
      Attempt 2 at <time> took <n> ms: status, status 503.
      A worker is sending it; should that one die, it is due at <time>.
    endpoint <endpoint 1> does not get it
      It wants `user.*`, `a`, and not `order.created`.
    endpoint <endpoint 2> does not get it
      Its filter does not match the payload: {\"/total\":{\"gte\":100}}.
    endpoint <endpoint 3> does not get it
      It gets events of tenant `t`, and this one is of no tenant.
    endpoint <endpoint 4> does not get it
      It is disabled.
    ");

    receiver.release();
    world.until_delivery_is(id, "delivered").await;
    let told = story(&world, id, &json!(wanting)).await;
    assert_eq!(told[2], "Attempt 3 at <time> took <n> ms: delivered, status 204.");
    assert_eq!(told[3], "It was delivered at <time>, after 3 attempts.");
    let late = world.endpoint(&organization, &receiver).await.id;
    let told = story(&world, id, &json!(late)).await;
    assert_eq!(told, ["It was made at <time>, after the event was stored."]);
    world.finish().await;
}

/// A webhook may arrive a moment before its event is stored.
async fn until_attempted(world: &World, id: EventId) {
    until("an attempt to be stored", async || {
        match world.attempts_of(id).await.len() {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_delivery_waits_for_is_told() {
    let mut world = setup()
        .worker_env("RETRY_INITIAL", "10h")
        .worker_env("CIRCUIT_FAILURES", "2")
        .worker_env("CIRCUIT_PAUSE", "1h")
        .worker_env("CIRCUIT_PAUSE_MAX", "1h")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let failing = world.endpoint(&organization, &receiver).await.id;
    let pull = json!({"kind": "pull", "event_types": ["a"]});
    let pull = request(&world, 0, Method::POST, "/v1/endpoints", &organization.key).json(&pull);
    let pull = json(pull).await["id"].clone();
    let producer = world.producer(&organization);
    let first = producer.send(&Event::new("a", "1")).await;
    until_attempted(&world, first).await;
    until("the failure to be recorded", async || {
        let told = story(&world, first, &json!(failing)).await;
        (told.len() == 2 && told[1].starts_with("The next attempt"))
            .then_some(())
            .ok_or_else(|| format!("{told:?}"))
    })
    .await;
    assert_eq!(
        story(&world, first, &pull).await,
        ["It waits until its owner pulls it."]
    );

    let second = producer.send(&Event::new("b", "1")).await;
    until_attempted(&world, second).await;
    until("the circuit to open", async || {
        let told = story(&world, second, &json!(failing)).await;
        told.last()
            .is_some_and(|line| line.starts_with("The endpoint's circuit is open after 2 failures in a row"))
            .then_some(())
            .ok_or_else(|| format!("{told:?}"))
    })
    .await;
    let path = format!("/v1/endpoints/{failing}");
    let disable = request(&world, 0, Method::PATCH, &path, &organization.key);
    assert_eq!(
        status(disable.json(&json!({"status": "disabled"}))).await,
        StatusCode::OK
    );
    let told = story(&world, second, &json!(failing)).await;
    assert_eq!(told[1], "It waits until the endpoint is enabled.");
    world.finish().await;
}

#[tokio::test]
async fn an_event_that_is_not_stored_has_no_story() {
    let world = crate::world().await;
    let nobody = "01890a5d-ac96-774b-bcce-b302099a8057";
    let (code, text, error) = explained(&world, nobody).await;
    assert_eq!((code, text.as_str()), (Some(1), ""));
    assert!(error.contains("no such event is stored"), "{error}");
    let path = |id: &str| format!("/admin/v1/events/{id}/explain");
    let get = |path: &str, key: &str| request(&world, 0, Method::GET, path, key);
    let token = world.stack().admin_token();
    for id in [nobody, "x"] {
        assert_eq!(status(get(&path(id), token)).await, StatusCode::NOT_FOUND);
    }
    let key = world.organization().await.key;
    assert_eq!(status(get(&path(nobody), &key)).await, StatusCode::UNAUTHORIZED);
    world.finish().await;
}
