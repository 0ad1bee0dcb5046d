//! Endpoints that keep failing: the circuit breaker, disabling, and what their owners are told.

use std::time::Duration;

use e2e::{
    Answer, Endpoint, Event, RawReceiver, Receiver, Setup, Webhook, World, read_request, until,
    with_wrong_clock,
};
use serde_json::{Value, json};
use shared::domain::id::EventId;
use tokio::io::AsyncWriteExt as _;

use crate::calls::send;
use crate::setup;

/// Retries every 200 ms, and a pause of a second between probes.
fn quick(failures: &str, pause: &str) -> Setup {
    setup()
        .worker_env("RETRY_FACTOR", "1")
        .worker_env("CIRCUIT_FAILURES", failures)
        .worker_env("CIRCUIT_PAUSE", pause)
        .worker_env("CIRCUIT_PAUSE_MAX", pause)
}

async fn until_status_is(world: &World, endpoint: Endpoint, expected: &str) -> Option<String> {
    until(&format!("the endpoint to be {expected}"), async || {
        let query = sqlx::query_as("select status, disabled_reason from endpoints where id = $1");
        let row = query.bind(endpoint.id).fetch_one(world.database()).await;
        let (status, reason): (String, Option<String>) = row.map_err(|error| error.to_string())?;
        if status == expected {
            Ok(reason)
        } else {
            Err(status)
        }
    })
    .await
}

async fn count(world: &World, query: &'static str) -> i64 {
    let count = sqlx::query_scalar(query).fetch_one(world.database()).await;
    count.expect("Postgres runs")
}

/// A receiver whose endpoint names operational events.
async fn watcher(world: &mut World, organization: &e2e::Organization) -> Receiver {
    let receiver = world.receiver().await;
    let types = json!({"event_types": ["endpoint.*", "delivery.dead"]});
    world.endpoint_with(organization, &receiver, types).await;
    receiver
}

fn told(webhook: &Webhook) -> (String, Value) {
    let body = webhook.parse();
    (
        body.r#type,
        serde_json::from_str(body.data.get()).expect("it is what the test wrote"),
    )
}

/// That its circuit has opened, while nearly all of 30 deliveries waited, and that it has closed.
fn assert_told_of_one_failure(webhooks: &[Webhook], endpoint: Endpoint) {
    let [(failing, failure), (recovered, recovery)] = [told(&webhooks[0]), told(&webhooks[1])];
    assert_eq!(
        [failing.as_str(), recovered.as_str()],
        ["endpoint.failing", "endpoint.recovered"]
    );
    let waiting = failure["waiting_deliveries"].as_u64();
    assert!(
        waiting.is_some_and(|waiting| (20..=30).contains(&waiting)),
        "{failure}"
    );
    let since = &failure["failing_since"];
    assert_eq!(
        failure,
        json!({"endpoint_id": endpoint.id, "failing_since": since, "reason": "status",
               "waiting_deliveries": waiting})
    );
    assert_eq!(
        recovery,
        json!({"endpoint_id": endpoint.id, "failing_since": since})
    );
    let since = since.as_str().expect("a time is a text");
    assert_eq!(since.len(), "2026-01-01T00:00:00.000000Z".len(), "{since}");
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_sent_one_probe_at_a_time_by_all_workers_together() {
    let mut world = quick("3", "1s").replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let fields = json!({"max_in_flight": 2, "event_types": ["a", "endpoint.recovered"]});
    let endpoint = world.endpoint_with(&organization, &receiver, fields).await;
    let watcher = watcher(&mut world, &organization).await;
    send(&world.producer(&organization), 30).await;
    until("the circuit to be open", async || {
        match count(
            &world,
            "select count(*) from endpoint_health where open_until is not null",
        )
        .await
        {
            1 => Ok(()),
            none => Err(none.to_string()),
        }
    })
    .await;

    // Two in flight at each worker when it opened; each of the others is a probe.
    receiver.wait_for(3 + 4 + 3).await;
    let webhooks = receiver.webhooks();
    let probes = &webhooks[3 + 4..];
    for pair in probes.windows(2) {
        let pause = pair[1].arrived - pair[0].arrived;
        assert!(pause >= Duration::from_millis(900), "{pause:?}");
    }

    receiver.answer(|_| Answer::status(204));
    world.settle().await;
    assert_eq!(count(&world, "select count(*) from endpoint_health").await, 0);
    let attempts = count(
        &world,
        "select sum(attempts) from deliveries d join events e on e.id = d.event_id where e.type = 'a'",
    )
    .await;
    assert_eq!(
        usize::try_from(attempts),
        Ok(receiver.count()),
        "waiting costs no attempts"
    );

    assert_told_of_one_failure(&watcher.wait_for(2).await, endpoint);
    assert_eq!(
        count(&world, "select count(*) from events where type <> 'a'").await,
        2,
        "once, however many workers and probes saw it"
    );
    until("what was told to be removed", async || {
        match count(&world, "select count(*) from operational_events").await {
            0 => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    assert!(
        receiver
            .webhooks()
            .iter()
            .all(|webhook| webhook.parse().r#type == "a")
    );
    world.finish().await;
}

#[tokio::test]
async fn an_endpoint_that_does_nothing_but_fail_is_disabled_and_goes_on_when_it_is_enabled() {
    let mut world = quick("2", "100ms")
        .worker_env("DISABLE_AFTER", "1s")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["a"]}))
        .await;
    let watcher = watcher(&mut world, &organization).await;
    let accepted = send(&world.producer(&organization), 20).await;
    let reason = until_status_is(&world, endpoint, "disabled").await;
    assert_eq!(reason.as_deref(), Some("nothing but failures for 1s"));
    let webhooks = watcher.wait_for(2).await;
    insta::assert_snapshot!(told(&webhooks[0]).0, @"endpoint.failing");
    insta::assert_snapshot!(told(&webhooks[1]).0, @"endpoint.disabled");
    assert_eq!(
        told(&webhooks[1]).1,
        json!({"endpoint_id": endpoint.id, "reason": "nothing but failures for 1s"})
    );

    receiver.answer(|_| Answer::status(204));
    let enable = sqlx::query("update endpoints set status = 'enabled' where id = $1").bind(endpoint.id);
    enable.execute(world.database()).await.unwrap();
    world.settle().await;
    for (id, _) in accepted {
        assert!(receiver.webhooks_of(id).iter().any(Webhook::was_taken));
    }
    world.finish().await;
}

#[tokio::test]
async fn owners_are_told_of_a_dead_delivery_once_and_never_of_one_that_told_them_something() {
    let mut world = setup()
        .worker_env("RETRY_ATTEMPTS", "2")
        .replicas(1, 2)
        .start()
        .await;
    let organization = world.organization().await;
    let (receiver, deaf, everything) = (
        world.receiver().await,
        world.receiver().await,
        world.receiver().await,
    );
    receiver.answer(|_| Answer::status(500));
    deaf.answer(|_| Answer::status(500));
    let endpoint = world
        .endpoint_with(
            &organization,
            &receiver,
            json!({"event_types": ["a", "delivery.dead"]}),
        )
        .await;
    let types = json!({"event_types": ["delivery.dead"]});
    let deaf_endpoint = world.endpoint_with(&organization, &deaf, types).await;
    world.endpoint(&organization, &everything).await;
    let watcher = watcher(&mut world, &organization).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    watcher.wait_for(1).await;
    until("the deaf endpoint's delivery to be dead", async || {
        let deliveries = world.deliveries().await;
        let of_deaf = deliveries
            .iter()
            .find(|delivery| delivery.endpoint_id == deaf_endpoint.id);
        match of_deaf {
            Some(delivery) if delivery.status == "dead" => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    world.settle().await;
    let told: Vec<_> = watcher.webhooks().iter().map(told).collect();
    let expected = json!({
        "endpoint_id": endpoint.id, "event_id": id, "event_type": "a", "attempts": 2, "reason": "status"
    });
    assert_eq!(told, [("delivery.dead".to_owned(), expected)]);
    assert_eq!(count(&world, "select count(*) from events").await, 2);
    // It is read back by its id, as any other event.
    let producer = world
        .http()
        .get(world.url(&format!("/v1/events/{}", watcher.webhooks()[0].id)));
    let answer = producer.bearer_auth(&organization.key).send().await.unwrap();
    assert_eq!(answer.status(), 200);
    let about_itself = |webhook: &Webhook| webhook.parse().r#type != "a";
    assert!(!receiver.webhooks().iter().any(about_itself));
    assert_eq!(
        everything.count(),
        1,
        "an endpoint that names no types gets what producers send"
    );
    world.finish().await;
}

#[tokio::test]
async fn owners_are_told_of_an_endpoint_whose_receiver_is_gone() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(410));
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["a"]}))
        .await;
    let watcher = watcher(&mut world, &organization).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    let webhooks = watcher.wait_for(1).await;
    let expected = json!({"endpoint_id": endpoint.id, "reason": "the receiver answered 410 Gone"});
    assert_eq!(told(&webhooks[0]), ("endpoint.disabled".to_owned(), expected));
    until_status_is(&world, endpoint, "disabled").await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_worker_whose_clock_is_ahead_tells_owners_is_dated_by_postgres() {
    let Some(ahead) = with_wrong_clock("+30d") else {
        println!("skipped: libfaketime is not installed (Debian: apt-get install libfaketime)");
        return;
    };
    let mut world = setup().replicas(1, 0).start().await;
    world.stack_mut().add_worker_with(ahead).await.unwrap();
    let organization = world.organization().await;
    // These do not look at the time in a signature, which is wrong too.
    let gone = raw_receiver("410 Gone").await;
    let watcher = raw_receiver("204 No Content").await;
    for (receiver, event_type) in [(&gone, "a"), (&watcher, "endpoint.disabled")] {
        let settings = json!({"event_types": [event_type]});
        world.endpoint_at(&organization, &receiver.url(), settings).await;
    }
    world.producer(&organization).send(&Event::new("a", "1")).await;
    world.until_deliveries_are(1, "delivered").await;
    let query = "select id, accepted_at > now() from events where type = 'endpoint.disabled'";
    let query = sqlx::query_as(query).fetch_one(world.database());
    let (id, is_ahead): (EventId, bool) = query.await.unwrap();
    assert!(!is_ahead);
    let url = world.url(&format!("/v1/events/{id}"));
    let answer = world.http().get(url).bearer_auth(&organization.key).send().await;
    assert_eq!(answer.unwrap().status(), 200);
    world.finish().await;
}

async fn raw_receiver(status: &'static str) -> RawReceiver {
    RawReceiver::start("127.0.0.1:0", move |mut stream| async move {
        read_request(&mut stream).await;
        let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\n\r\n");
        stream
            .write_all(answer.as_bytes())
            .await
            .expect("the worker waits for it");
    })
    .await
}

#[tokio::test]
async fn an_endpoint_that_was_deleted_is_neither_disabled_nor_remembered_as_unwell() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    watcher(&mut world, &organization).await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(410).held());
    let patient = json!({"timeout_ms": 30_000});
    let endpoint = world.endpoint_with(&organization, &receiver, patient).await;
    let id = world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    let delete = sqlx::query("update endpoints set deleted_at = now() where id = $1").bind(endpoint.id);
    delete.execute(world.database()).await.unwrap();
    receiver.release();
    until("the late answer to be recorded", async || {
        match world.attempts_of(id).await.len() {
            1 => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    until_status_is(&world, endpoint, "enabled").await;
    let told = "select (select count(*) from operational_events) +
                       (select count(*) from events where type = 'endpoint.disabled')";
    assert_eq!(count(&world, told).await, 0);

    // What a failure comes to that is counted after the deletion.
    let late =
        "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, open_until)
                select id, org_id, 10, now(), now() from endpoints where id = $1
                on conflict (endpoint_id) do nothing";
    let late = sqlx::query(late).bind(endpoint.id);
    late.execute(world.database()).await.unwrap();
    until("it to be forgotten", async || {
        match count(&world, "select count(*) from endpoint_health").await {
            0 => Ok(()),
            others => Err(others.to_string()),
        }
    })
    .await;
    world.finish().await;
}
