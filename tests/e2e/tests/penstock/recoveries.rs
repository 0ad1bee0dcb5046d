//! Finished deliveries that are made pending again.

use std::time::{Duration, Instant};

use e2e::{Answer, Endpoint, Organization, Receiver, Setup, World, until};
use sqlx::Row as _;
use uuid::Uuid;

use crate::faults::send;
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

async fn recover(
    world: &World,
    organization: &Organization,
    endpoint: Endpoint,
    status: &str,
    per_second: i32,
) -> Uuid {
    let id = Uuid::now_v7();
    let query = sqlx::query(
        "insert into recoveries (id, org_id, endpoint_id, since, until, statuses, per_second, matched)
         values ($1, $2, $3, now() - interval '1 hour', now(), array[$4], $5, 0)",
    );
    let query = query
        .bind(id)
        .bind(organization.id)
        .bind(endpoint.id)
        .bind(status)
        .bind(per_second);
    query.execute(world.database()).await.expect("Postgres answers");
    id
}

async fn progress(world: &World, id: Uuid) -> (String, i64) {
    let query = sqlx::query("select status, recovered from recoveries where id = $1").bind(id);
    let row = query.fetch_one(world.database()).await.expect("Postgres answers");
    (row.get(0), row.get(1))
}

async fn until_progress(world: &World, id: Uuid, holds: impl Fn(&(String, i64)) -> bool) -> (String, i64) {
    until("the recovery to go on", async || {
        let seen = progress(world, id).await;
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
    let id = recover(&world, &organization, endpoint, "dead", 100).await;
    until_progress(&world, id, |(status, recovered)| {
        status == "running" && (90..=200).contains(recovered)
    })
    .await;
    until_progress(&world, id, |seen| *seen == ("finished".to_owned(), 299)).await;
    world.until_deliveries_are(299, "delivered").await;
    // Steps at 0, about 1 and 2 seconds.
    assert!(
        start.elapsed() >= Duration::from_millis(1_900),
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
    let id = recover(&world, &organization, endpoint, "dead", 10).await;
    until_progress(&world, id, |(_, recovered)| *recovered >= 10).await;
    // Its next step would be due before the first of the other recovery.
    let cancel = sqlx::query_scalar(
        "update recoveries set status = 'cancelled', next_step_at = now() where id = $1 returning recovered",
    );
    let recovered: i64 = cancel.bind(id).fetch_one(world.database()).await.unwrap();
    assert!(recovered < 100);
    let other = recover(&world, &organization, endpoint, "delivered", 1_000).await;
    until_progress(&world, other, |(status, _)| status == "finished").await;
    world.settle().await;
    assert_eq!(progress(&world, id).await, ("cancelled".to_owned(), recovered));
    world.until_deliveries_are(100 - recovered, "dead").await;
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
    let id = recover(&world, &organization, endpoint, "delivered", 2).await;
    until_progress(&world, id, |seen| *seen == ("finished".to_owned(), 5)).await;
    world.settle().await;
    for (event, _) in accepted {
        assert_eq!(
            (receiver.webhooks_of(event).len(), other.webhooks_of(event).len()),
            (2, 1)
        );
    }
    world.finish().await;
}
