//! Endpoints that keep failing: the circuit breaker, disabling, and what their owners are told.

mod notices;

use std::time::Duration;

use e2e::{
    Answer, Endpoint, Event, RawReceiver, Receiver, Setup, Webhook, World, is_time, read_request, until,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::calls::send;
use crate::faults::held_up::lock;
use crate::operating::retention::old_event;
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

/// What they tell, in the order in which it happened: what is sent at the same time may arrive in another one.
fn told_in_order(webhooks: &[Webhook]) -> Vec<(String, Value)> {
    let mut webhooks: Vec<_> = webhooks.iter().collect();
    webhooks.sort_by_cached_key(|webhook| webhook.parse().timestamp.to_owned());
    webhooks.into_iter().map(told).collect()
}

/// That its circuit has opened, while nearly all of 30 deliveries waited, and that it has closed.
fn assert_told_of_one_failure(webhooks: &[Webhook], endpoint: Endpoint) {
    let notices = told_in_order(webhooks);
    let [(failing, failure), (recovered, recovery), ..] = notices.as_slice() else {
        panic!("{notices:?}");
    };
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
        *failure,
        json!({"endpoint_id": endpoint.id, "failing_since": since, "reason": "status",
               "waiting_deliveries": waiting})
    );
    assert_eq!(
        *recovery,
        json!({"endpoint_id": endpoint.id, "failing_since": since})
    );
    assert!(since.as_str().is_some_and(is_time), "{since}");
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_sent_one_probe_at_a_time_by_all_workers_together() {
    let mut world = quick("3", "1s").replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500).held());
    let fields = json!({
        "max_in_flight": 2, "timeout_ms": 20_000, "event_types": ["a", "endpoint.recovered"]
    });
    let endpoint = world.endpoint_with(&organization, &receiver, fields).await;
    let watcher = watcher(&mut world, &organization).await;
    send(&world.producer(&organization), 30).await;
    world.until_deliveries_are_stored(30).await;
    receiver.release();
    let open = "select count(*) from endpoint_health where open_until is not null";
    world.until_count_is("the circuit to be open", open, 1).await;

    // Two may be in flight at each worker; each of the others is a probe.
    let others = receiver.count() + 4;
    let webhooks = receiver.wait_for(others + 3).await;
    let probes = &webhooks[others..];
    for pair in probes.windows(2) {
        let pause = pair[1].arrived - pair[0].arrived;
        assert!(pause >= Duration::from_millis(900), "{pause:?}");
    }

    receiver.answer(|_| Answer::status(204));
    world.settle().await;
    assert_eq!(world.count("select count(*) from endpoint_health").await, 0);
    let attempts =
        "select sum(attempts) from deliveries d join events e on e.id = d.event_id where e.type = 'a'";
    let attempts = world.count(attempts).await;
    assert_eq!(
        usize::try_from(attempts),
        Ok(receiver.count()),
        "waiting costs no attempts"
    );

    assert_told_of_one_failure(&watcher.wait_for(2).await, endpoint);
    assert_eq!(
        world.count("select count(*) from events where type <> 'a'").await,
        2,
        "once, however many workers and probes saw it"
    );
    let told = "select count(*) from operational_events";
    world.until_count_is("what was told to be removed", told, 0).await;
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
        .worker_env("DISABLE_AFTER", "12s")
        .worker_env("RETRY_ATTEMPTS", "100")
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let endpoint = world
        .endpoint_with(&organization, &receiver, json!({"event_types": ["a"]}))
        .await;
    let watcher = world.receiver().await;
    let types = json!({"event_types": ["endpoint.failing", "endpoint.disabled"]});
    world.endpoint_with(&organization, &watcher, types).await;
    let accepted = send(&world.producer(&organization), 20).await;
    let reason = until_status_is(&world, endpoint, "disabled").await;
    assert_eq!(reason.as_deref(), Some("nothing but failures for 12s"));
    let notices = told_in_order(&watcher.wait_for(2).await);
    insta::assert_snapshot!(notices[0].0, @"endpoint.failing");
    insta::assert_snapshot!(notices[1].0, @"endpoint.disabled");
    assert_eq!(
        notices[1].1,
        json!({"endpoint_id": endpoint.id, "reason": "nothing but failures for 12s"})
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
    assert_eq!(world.count(told).await, 0);

    // What a failure comes to that is counted after the deletion.
    let late =
        "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, open_until)
                select id, org_id, 10, now(), now() from endpoints where id = $1
                on conflict (endpoint_id) do nothing";
    let late = sqlx::query(late).bind(endpoint.id);
    late.execute(world.database()).await.unwrap();
    let counted = "select count(*) from endpoint_health";
    world.until_count_is("it to be forgotten", counted, 0).await;
    world.finish().await;
}

#[tokio::test]
async fn a_pause_that_begins_while_a_worker_finds_nothing_for_its_probe_is_kept() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let failing = world.endpoint(&organization, &receiver).await;
    let other = world.endpoint(&organization, &receiver).await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let waiting = old_event(&world, &organization, failing, 0, "pending").await;
    // As if an earlier attempt of another worker failed just after the probe was taken.
    world
        .execute(format!(
            "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, open_until)
             values ('{}', '{}', 10, now(), now());
             create function fail() returns trigger language plpgsql as $$
             begin
                 update endpoint_health set open_until = now() + interval '5 minutes'
                 where endpoint_id = new.endpoint_id;
                 return null;
             end $$;
             create trigger fail after update on endpoint_health for each row
                 when (old.open_until <= now()) execute function fail()",
            failing.id, organization.id
        ))
        .await;
    let held_up = lock(&world, "select from deliveries for update").await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    let paused = "select count(*) from endpoint_health where open_until > now() + interval '4 minutes'";
    world.until_count_is("the pause to begin", paused, 1).await;
    // What comes from now on is found by a later look, after the probe was given up.
    let later = old_event(&world, &organization, other, 0, "pending").await;
    world.until_delivery_is(later, "delivered").await;
    assert_eq!(world.count(paused).await, 1);

    held_up.rollback().await.unwrap();
    // The former worker takes no probe that it could not send.
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world
        .execute("update endpoint_health set open_until = now()")
        .await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.until_delivery_is(waiting, "delivered").await;
    world.finish().await;
}
