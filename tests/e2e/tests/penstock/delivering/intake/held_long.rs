//! Events that have begun, and cannot be stored for a while: they are sent once all the same.

use std::time::{Duration, Instant};

use e2e::{Organization, Signal, World, new_event, until};

use super::early::{nothing_is_stored, start, start_with, with};
use crate::faults::held_up::{STORING, until_statement_waits};
use crate::setup;

/// Adds endpoints that want events of type `b`, and that nobody pulls from.
async fn add_endpoints(world: &World, organization: &Organization, count: i32) {
    let query = sqlx::query(
        "insert into endpoints (id, org_id, kind, event_types, secret, max_in_flight, timeout_ms)
         select gen_random_uuid(), $1, 'pull', '{b}', '', 1, 1 from generate_series(1, $2)",
    );
    let query = query.bind(organization.id).bind(count);
    query.execute(world.database()).await.expect("Postgres answers");
}

/// Its frame has more deliveries then than one statement writes, and is stored apart from the others of its batch.
#[tokio::test]
async fn an_event_that_has_begun_is_sent_once_when_its_frame_gets_too_many_deliveries() {
    let (world, organization, receiver) = start().await;
    add_endpoints(&world, &organization, 3_000).await;
    let held = nothing_is_stored(&world).await;
    let events = ["a", "b"].map(|event_type| new_event(organization.id, event_type, "1"));
    world.publish_events(&events).await;
    // The other one has deliveries that cannot begin.
    receiver.wait_for(1).await;
    add_endpoints(&world, &organization, 1_000).await;
    world.until_worker_logs("cannot store events, trying again").await;
    held.rollback().await.unwrap();
    world.until_deliveries_are(2, "delivered").await;
    assert_eq!(receiver.count(), 2);
    world.finish().await;
}

/// A frame counts as left over that was handed out three waits for acknowledgements before. Workers look for such frames each 5
/// seconds: at the fourth look this one would be one.
const ACK_WAIT: &str = "5s";
const FOUR_LOOKS: Duration = Duration::from_secs(24);

#[tokio::test]
async fn a_frame_whose_events_have_begun_is_not_left_over_while_nothing_can_be_stored() {
    let setup = setup().worker_env("INTAKE_ACK_WAIT", ACK_WAIT);
    let (world, organization, receiver) = start_with(setup, 1).await;
    let held = nothing_is_stored(&world).await;
    let begun = Instant::now();
    world.publish_events(&[with(&organization, None, None)]).await;
    receiver.wait_for(1).await;
    let storing = "select count(*) from pg_stat_activity
                   where application_name = 'delivery-worker' and wait_event_type = 'Lock'
                     and query like '%incoming as materialized%'";
    until("the frame to be held for long", async || {
        assert!(world.count(storing).await < 2, "it is stored twice");
        let left = FOUR_LOOKS.saturating_sub(begun.elapsed());
        left.is_zero().then_some(()).ok_or(format!("{left:?} left"))
    })
    .await;
    held.rollback().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}

/// The statement that stores it fails after the stop has come.
#[tokio::test]
async fn an_event_that_has_begun_is_sent_once_when_its_storing_fails_at_the_stop() {
    let (mut world, organization, receiver) = start().await;
    let held = nothing_is_stored(&world).await;
    world.publish_events(&[with(&organization, None, None)]).await;
    receiver.wait_for(1).await;
    let storing = until_statement_waits(&world, "delivery-worker", STORING).await;
    world.stack().worker(0).signal(Signal::SIGTERM).unwrap();
    world.until_worker_logs("stopping").await;
    let cancel = sqlx::query_scalar("select pg_cancel_backend($1)").bind(storing);
    let cancelled: bool = cancel.fetch_one(world.database()).await.unwrap();
    assert!(cancelled);
    world.until_worker_logs("cannot store events, trying again").await;
    held.rollback().await.unwrap();
    let ended = world.until_worker_ends().await;
    assert!(ended.success());
    world.stack_mut().worker_mut(0).start().await.unwrap();
    world.until_deliveries_are(1, "delivered").await;
    world.settle().await;
    assert_eq!(receiver.count(), 1);
    world.finish().await;
}
