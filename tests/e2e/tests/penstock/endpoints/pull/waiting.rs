//! Pulls that wait for an event.

use std::time::{Duration, Instant};

use e2e::{STOP_DEADLINE, World, transcript, until};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::task::JoinSet;

use super::{Consumer, send};
use crate::calls::{make, request, status, text};
use crate::setup;

#[tokio::test]
async fn a_pull_that_waits_is_answered_as_soon_as_an_event_arrives_and_holds_no_connection() {
    let world = setup().ingest_env("DATABASE_CONNECTIONS", "4").start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let started = Instant::now();
    let body = json!({"wait_seconds": 20, "max": 1});
    let waiting = join_all((0..8).map(|_| consumer.pull(body.clone())));
    let sending = async {
        // The few connections are free for others while more pulls than these wait.
        for _ in 0..5 {
            let list = world.http().get(world.url("/v1/endpoints"));
            let list = list.bearer_auth(&organization.key).send().await.unwrap();
            assert_eq!(list.status(), 200);
        }
        for _ in 0..8 {
            send(&world, &organization, "1").await;
        }
    };
    let (pulled, ()) = tokio::join!(waiting, sending);
    assert!(pulled.iter().all(|deliveries| deliveries.len() == 1));
    assert!(
        started.elapsed() < Duration::from_secs(15),
        "{:?}",
        started.elapsed()
    );
    world.finish().await;
}

/// Waits until as many pulls wait at the only `ingest-api`.
async fn until_waiting(world: &World, pulls: u32) {
    until(&format!("{pulls} pulls that wait"), async || {
        let metrics = world.http().get(world.stack().ingest(0).metrics_url());
        let metrics = metrics.send().await.expect("metrics are served").text().await;
        let metrics = metrics.expect("an answer has a whole body");
        if metrics.contains(&format!("\npenstock_pulls_waiting {pulls}\n")) {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await;
}

#[tokio::test]
async fn a_pull_that_waits_ends_with_its_time_and_with_its_client_and_with_the_service() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let started = Instant::now();
    assert!(consumer.pull(json!({"wait_seconds": 1})).await.is_empty());
    assert!((1..15).contains(&started.elapsed().as_secs()));

    let wait = || {
        let request = consumer.post("pull", &json!({"wait_seconds": 20}));
        JoinSet::from_iter([async move { transcript(request.send().await.unwrap()).await }])
    };
    let mut client = wait();
    until_waiting(&world, 1).await;
    client.shutdown().await;
    until_waiting(&world, 0).await;

    let client = wait();
    until_waiting(&world, 1).await;
    let stopping = Instant::now();
    let stopped = world.stack_mut().ingest_mut(0).terminate(STOP_DEADLINE).await;
    assert!(stopped.expect("it runs").success());
    assert!(
        stopping.elapsed() < Duration::from_secs(10),
        "{:?}",
        stopping.elapsed()
    );
    insta::assert_snapshot!(client.join_all().await.concat(), @r#"
    200 OK
    content-type: application/json

    {"deliveries":[]}
    "#);
    world.finish().await;
}

async fn until_somebody_waits(world: &World) {
    until("a pull to wait", async || {
        let waiting = world
            .gauge(world.stack().ingest(0), "penstock_pulls_waiting")
            .await;
        waiting
            .filter(|count| *count > 0.0)
            .map(drop)
            .ok_or_else(|| format!("{waiting:?}"))
    })
    .await;
}

#[tokio::test]
async fn a_pull_that_waits_gets_nothing_any_more_when_its_key_is_revoked_or_its_endpoint_disabled() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let made = make(
        &world,
        &organization.key,
        &json!({"name": "a", "scopes": ["manage"]}),
    )
    .await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let revoked = Consumer {
        key: key.to_owned(),
        ..consumer.clone()
    };
    let pull = revoked
        .post("pull", &json!({"wait_seconds": 20, "lease_seconds": 1}))
        .send();
    let revoking = async {
        until_somebody_waits(&world).await;
        let revoke = request(
            &world,
            0,
            Method::DELETE,
            &format!("/v1/keys/{id}"),
            &organization.key,
        );
        assert_eq!(status(revoke).await, 204);
        send(&world, &organization, "1").await;
    };
    let (pulled, ()) = tokio::join!(pull, revoking);
    assert_eq!(pulled.expect("ingest-api answers").status(), 503);

    let leased = consumer
        .pull(json!({"wait_seconds": 20, "lease_seconds": 3_600}))
        .await;
    assert_eq!(leased.len(), 1);
    let disabling = async {
        until_somebody_waits(&world).await;
        let path = format!("/v1/endpoints/{}", consumer.endpoint);
        let disable = request(&world, 0, Method::PATCH, &path, &organization.key);
        assert_eq!(status(disable.json(&json!({"status": "disabled"}))).await, 200);
        let due = sqlx::query("update deliveries set next_attempt_at = now()");
        due.execute(world.database()).await.expect("Postgres answers");
    };
    let pull = consumer.pull(json!({"wait_seconds": 4}));
    let (pulled, ()) = tokio::join!(pull, disabling);
    assert!(pulled.is_empty());
    let path = format!("/v1/endpoints/{}", consumer.endpoint);
    let delete = request(&world, 0, Method::DELETE, &path, &organization.key);
    assert_eq!(status(delete).await, 204);
    world.settle().await;
    world.finish().await;
}

/// With a limit of the endpoint, each look for something to lease writes to the row of its pace.
#[tokio::test]
async fn a_pull_that_waits_is_not_woken_again_and_again_by_what_is_left_to_the_workers() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let path = format!("/v1/endpoints/{}", consumer.endpoint);
    let limits = json!({"retry": {"attempts": 1}, "max_in_flight": 10});
    let change = request(&world, 0, Method::PATCH, &path, &organization.key).json(&limits);
    assert_eq!(status(change).await, 200);
    let id = send(&world, &organization, "1").await;
    world.until_deliveries_are_stored(1).await;
    assert_eq!(consumer.pull(json!({"lease_seconds": 3_600})).await.len(), 1);
    // Nobody ends the delivery when its only lease runs out.
    let worker = world.stack_mut().worker_mut(0);
    worker.terminate(STOP_DEADLINE).await.expect("it runs");
    let looks = "
        update deliveries set next_attempt_at = now();
        create table looks (at timestamptz);
        create function note_look() returns trigger language plpgsql as
        $$ begin insert into looks values (clock_timestamp()); return null; end $$;
        create trigger note_look after insert or update on endpoint_pace for each row execute function note_look()";
    world.execute(looks).await;
    assert!(consumer.pull(json!({"wait_seconds": 2})).await.is_empty());
    // One before it waits, and one as it begins to.
    assert_eq!(world.count("select count(*) from looks").await, 2);
    let worker = world.stack_mut().worker_mut(0);
    worker.start().await.expect("it starts again");
    world.until_delivery_is(id, "dead").await;
    world.finish().await;
}
