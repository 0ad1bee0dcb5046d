//! Finished deliveries that are made pending again.

use std::time::{Duration, Instant};

use e2e::{Answer, Endpoint, Event, Organization, Receiver, Setup, World, until};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::clock::UnixMicros;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::calls::{call, json, send, status};
use crate::faults::held_up::{lock, until_waits};
use crate::setup;

fn quick() -> Setup {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "2");
    setup
        .worker_env("RETRY_INITIAL", "20ms")
        .worker_env("CIRCUIT_FAILURES", "1000000")
}

/// An endpoint with this many dead deliveries.
async fn with_dead(world: &mut World, organization: &Organization, number: usize) -> (Receiver, Endpoint) {
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let endpoint = world.endpoint(organization, &receiver).await;
    send(&world.producer(organization), number).await;
    world
        .until_deliveries_are(i64::try_from(number).expect("it is what the test wrote"), "dead")
        .await;
    (receiver, endpoint)
}

/// A recovery that was asked for.
struct Recovery<'a> {
    id: Uuid,
    organization: &'a Organization,
    path: String,
}

async fn recover<'a>(
    world: &World,
    organization: &'a Organization,
    endpoint: Endpoint,
    status: &str,
    per_second: i32,
) -> Recovery<'a> {
    let hour_ago = UnixMicros::new(UnixMicros::now().get() - 3_600_000_000).to_date_time();
    let hour_ago = hour_ago.format(&Rfc3339).expect("it has a form");
    let path = format!("/{}/recover", endpoint.id);
    let body = json!({"since": hour_ago, "statuses": [status], "per_second": per_second});
    let request = call(world, organization, Method::POST, &path).json(&body);
    let answer = request.send().await.expect("ingest-api answers");
    assert_eq!(answer.status(), 202);
    let started: Value = answer.json().await.expect("it is JSON");
    let id: Uuid = serde_json::from_value(started["id"].clone()).expect("it has an id");
    Recovery {
        id,
        organization,
        path: format!("/{}/recoveries/{id}", endpoint.id),
    }
}

/// Its status, and how many deliveries it has made pending.
async fn progress(world: &World, recovery: &Recovery<'_>) -> (String, i64) {
    let shown = json(call(world, recovery.organization, Method::GET, &recovery.path)).await;
    let status = shown["status"].as_str().expect("it has a status").to_owned();
    (status, shown["recovered"].as_i64().expect("it counts"))
}

async fn until_progress(
    world: &World,
    recovery: &Recovery<'_>,
    holds: impl Fn(&(String, i64)) -> bool,
) -> (String, i64) {
    until("the recovery to go on", async || {
        let seen = progress(world, recovery).await;
        if holds(&seen) {
            Ok(seen)
        } else {
            Err(format!("{seen:?}"))
        }
    })
    .await
}

#[tokio::test]
async fn dead_deliveries_come_back_at_the_pace_that_was_asked_for_with_all_their_attempts() {
    let mut world = quick().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let (receiver, endpoint) = with_dead(&mut world, &organization, 300).await;
    let expunge = "update events set expunged_at = now(), data = '' where id = (select min(id::text)::uuid from events)";
    sqlx::query(expunge).execute(world.database()).await.unwrap();
    // The first attempt after the recovery fails too.
    receiver.answer(|webhook| Answer::status(if webhook.number <= 3 { 500 } else { 204 }));

    let start = Instant::now();
    let recovery = recover(&world, &organization, endpoint, "dead", 50).await;
    until_progress(&world, &recovery, |(status, recovered)| {
        status == "running" && (45..=250).contains(recovered)
    })
    .await;
    until_progress(&world, &recovery, |seen| *seen == ("finished".to_owned(), 299)).await;
    world.until_deliveries_are(299, "delivered").await;
    // Steps at 0 and about 1 to 5 seconds.
    assert!(
        start.elapsed() >= Duration::from_millis(4_900),
        "{:?}",
        start.elapsed()
    );
    assert!(
        world
            .deliveries()
            .await
            .iter()
            .all(|delivery| delivery.attempts == 4 || delivery.status == "dead")
    );
    world.finish().await;
}

#[tokio::test]
async fn a_cancelled_recovery_makes_nothing_more_pending() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (receiver, endpoint) = with_dead(&mut world, &organization, 100).await;
    receiver.answer(|_| Answer::status(204));
    let recovery = recover(&world, &organization, endpoint, "dead", 10).await;
    until_progress(&world, &recovery, |(_, recovered)| *recovered >= 10).await;
    let cancel = call(&world, &organization, Method::DELETE, &recovery.path);
    assert_eq!(status(cancel).await, 204);
    // Its next step would be due before the first of the other recovery.
    let due = sqlx::query("update recoveries set next_step_at = now() where id = $1").bind(recovery.id);
    due.execute(world.database()).await.expect("Postgres answers");
    let (_, recovered) = progress(&world, &recovery).await;
    assert!(recovered < 100);
    let other = recover(&world, &organization, endpoint, "delivered", 1_000).await;
    until_progress(&world, &other, |(status, _)| status == "finished").await;
    world.settle().await;
    assert_eq!(
        progress(&world, &recovery).await,
        ("cancelled".to_owned(), recovered)
    );
    world.until_deliveries_are(100 - recovered, "dead").await;
    world.finish().await;
}

/// Whoever changes an endpoint would wait for the deletion.
#[tokio::test]
async fn the_deletion_of_an_endpoint_does_not_wait_for_a_worker_that_takes_a_step_of_its_recovery() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (_receiver, endpoint) = with_dead(&mut world, &organization, 20).await;
    let recovery = recover(&world, &organization, endpoint, "dead", 1).await;
    let step = lock(&world, "select from recoveries for update").await;
    let delete = call(
        &world,
        &organization,
        Method::DELETE,
        &format!("/{}", endpoint.id),
    );
    assert_eq!(status(delete).await, 204);
    step.rollback().await.expect("Postgres runs");
    until("the recovery to be cancelled", async || {
        let found = sqlx::query_scalar("select status from recoveries where id = $1").bind(recovery.id);
        let found: String = found.fetch_one(world.database()).await.expect("Postgres runs");
        if found == "cancelled" { Ok(()) } else { Err(found) }
    })
    .await;
    world.settle().await;
    world.finish().await;
}

#[tokio::test]
async fn delivered_events_are_sent_again_when_their_owner_wants_them_again() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let (receiver, other) = (world.receiver().await, world.receiver().await);
    let endpoint = world.endpoint(&organization, &receiver).await;
    world.endpoint(&organization, &other).await;
    let accepted = send(&world.producer(&organization), 5).await;
    world.settle().await;
    let recovery = recover(&world, &organization, endpoint, "delivered", 2).await;
    until_progress(&world, &recovery, |seen| *seen == ("finished".to_owned(), 5)).await;
    world.settle().await;
    for (event, _) in accepted {
        assert_eq!(
            (receiver.webhooks_of(event).len(), other.webhooks_of(event).len()),
            (2, 1)
        );
    }
    world.finish().await;
}

#[tokio::test]
async fn a_delivery_whose_payload_is_being_removed_does_not_come_back() {
    let mut world = quick().start().await;
    let organization = world.organization().await;
    let (receiver, endpoint) = with_dead(&mut world, &organization, 1).await;
    let sent = receiver.count();
    let removal = lock(&world, "update events set data = '', expunged_at = now()").await;
    let recovery = recover(&world, &organization, endpoint, "dead", 100).await;
    until_waits(&world, "delivery-worker").await;
    removal.commit().await.unwrap();
    until_progress(&world, &recovery, |seen| *seen == ("finished".to_owned(), 0)).await;
    world.until_deliveries_are(1, "dead").await;
    assert_eq!(receiver.count(), sent);
    world.finish().await;
}

#[tokio::test]
async fn a_recovery_of_a_tenants_endpoint_counts_that_tenants_events_beside_any_number_of_others() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let fields = json!({"tenant": "one", "create_tenant": true});
    let endpoint = world.endpoint_with(&organization, &receiver, fields).await;
    let event = Event::new("a", "1").of_tenant("one");
    for _ in 0..2 {
        world.producer(&organization).send(&event).await;
    }
    world.until_deliveries_are(2, "delivered").await;
    // One more than are counted.
    let others = sqlx::query(
        "insert into events (org_id, accepted_at, id, type, content_type, data, tenant)
         select $1, now() - n * interval '1 millisecond', gen_random_uuid(), 'a', 'application/json', '1', 'two'
         from generate_series(1, 10001) n",
    );
    let others = others.bind(organization.id).execute(world.database()).await;
    others.expect("Postgres runs");
    let recovery = recover(&world, &organization, endpoint, "delivered", 100).await;
    let shown = json(call(&world, &organization, Method::GET, &recovery.path)).await;
    assert_eq!(shown["matched"], 2);
    until_progress(&world, &recovery, |seen| *seen == ("finished".to_owned(), 2)).await;
    world.settle().await;
    assert_eq!(receiver.count(), 4);
    world.finish().await;
}
