//! What is counted again, and what is not counted twice.

use e2e::{Answer, Event, new_event, until, until_within};
use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;

use super::{COUNTED_BEFORE, LATER, NOTED, PATIENCE, counts, expected, filled, until_usage_is};
use crate::calls::{send, status};
use crate::faults::held_up::until_waits;
use crate::operating::commands::worker_command;
use crate::setup;

/// In the middle of the statement that writes what it has counted.
#[tokio::test]
async fn a_worker_that_dies_while_it_counts_changes_nothing() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "2").start().await;
    let (organization, _) = filled(&mut world).await;
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");
    // What it was committing when it died comes before.
    let none_counted = "select pg_advisory_xact_lock(8099000947066495335);
                        delete from usage;
                        delete from usage_hours";
    world.execute(none_counted).await;
    // Rows that somebody else writes and does not commit hold up whoever writes the same.
    let mut other = world.database().begin().await.expect("Postgres runs");
    let rows = "insert into usage
                select distinct org_id, (accepted_at at time zone 'UTC')::date, coalesce(tenant, ''),
                       extract(hour from accepted_at at time zone 'UTC')::smallint, 99, 99, 99, 99, 99
                from events";
    let written = sqlx::query(rows).execute(&mut *other).await;
    written.expect("Postgres runs");
    world
        .stack_mut()
        .worker_mut(0)
        .start()
        .await
        .expect("Postgres answers");
    until_waits(&world, "delivery-worker").await;
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");
    other.rollback().await.expect("Postgres runs");
    let left = world.count("select count(*) from usage").await;
    assert_eq!(left, 0, "it is written as a whole");
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_usage_is(&world, &organization, &expected()).await;
    world.stack_mut().worker_mut(0).start().await.expect("it starts");
    let args = ["--since", "6h", "--json"];
    let audit = worker_command(&world, "audit").args(args).output().await;
    let audit = audit.expect("the program can be run");
    assert!(audit.status.success(), "{audit:?}");
    world
        .execute("update usage set accepted = accepted + 1 where tenant = ''")
        .await;
    let audit = worker_command(&world, "audit")
        .args(["--since", "6h"])
        .output()
        .await;
    let audit = audit.expect("the program can be run");
    assert!(!audit.status.success());
    let error = String::from_utf8_lossy(&audit.stderr);
    assert!(error.contains("stuck: usage of "), "{error}");
    world.finish().await;
}

#[tokio::test]
async fn a_replay_counts_in_the_hour_of_its_event() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    // Found by its id although it is dated back.
    let event = Event::new("a", "1").with_idempotency_key("k");
    let id = producer.send(&event).await;
    world.until_delivery_is(id, "dead").await;
    world.execute(LATER).await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &counts([("", [1, 1, 0, 1, 1])])).await;

    receiver.answer(|_| Answer::status(204));
    let replay = producer.post(&format!("/v1/events/{id}/replay"));
    assert_eq!(status(replay).await, 202);
    world.until_delivery_is(id, "delivered").await;
    world.execute(COUNTED_BEFORE).await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &counts([("", [1, 1, 1, 2, 0])])).await;

    // And what becomes of a delivery that is pending when its hour is counted.
    world.execute("update endpoints set status = 'disabled'").await;
    let replay = producer.post(&format!("/v1/events/{id}/replay"));
    assert_eq!(status(replay).await, 202);
    world.execute(COUNTED_BEFORE).await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &counts([("", [1, 1, 0, 2, 0])])).await;
    world.execute("update endpoints set status = 'enabled'").await;
    world.until_delivery_is(id, "delivered").await;
    world.execute(COUNTED_BEFORE).await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &counts([("", [1, 1, 1, 3, 0])])).await;
    world.finish().await;
}

/// Such as one that was put back out of the quarantine.
#[tokio::test]
async fn an_event_that_comes_after_its_hour_was_counted_counts_in_it() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    until_within(PATIENCE, "the worker to have counted", async || {
        let behind = world
            .gauge(world.stack().worker(0), "penstock_usage_behind_seconds")
            .await;
        if behind.is_some() {
            Ok(())
        } else {
            Err("it has not".to_owned())
        }
    })
    .await;
    let accepted_at = UnixMicros::new(UnixMicros::now().get() - 5 * 3_600_000_000);
    let late = shared::domain::event::Event {
        id: EventId::at(accepted_at),
        accepted_at,
        ..new_event(organization.id, "a", "123")
    };
    world.publish_events(&[late]).await;
    world
        .until_count_is("its hour to be counted again", NOTED, 1)
        .await;
    world.execute(COUNTED_BEFORE).await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &counts([("", [1, 3, 0, 0, 0])])).await;
    send(&world.producer(&organization), 1).await;
    world.settle().await;
    assert_eq!(world.count(NOTED).await, 0, "what comes in time is not noted");
    world.finish().await;
}

/// An hour is counted, and those before it are not. The lock is that of who counts.
const LAST_HOUR_ALONE: &str = "select pg_advisory_xact_lock(8099000947066495335);
                               delete from usage_hours;
                               insert into usage_hours (hour, counted_at, state, open_since)
                               values (date_trunc('hour', now(), 'UTC') - interval '1 hour', now(), 'settled', now())";

#[tokio::test]
async fn a_worker_tells_how_far_usage_is_behind_while_its_counting_is_held_up() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "2").start().await;
    let (organization, _) = filled(&mut world).await;
    until_usage_is(&world, &organization, &expected()).await;
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");
    world.execute(LAST_HOUR_ALONE).await;
    let mut other = world.database().begin().await.expect("Postgres runs");
    let locked = sqlx::query("select from usage for update")
        .execute(&mut *other)
        .await;
    locked.expect("Postgres runs");
    let worker = world.stack_mut().worker_mut(0);
    worker.start().await.expect("Postgres answers");
    until_waits(&world, "delivery-worker").await;
    until("the worker to tell how far it is behind", async || {
        let behind = world
            .gauge(world.stack().worker(0), "penstock_usage_behind_seconds")
            .await;
        behind.map(|_| ()).ok_or_else(|| "it does not".to_owned())
    })
    .await;
    other.rollback().await.expect("Postgres runs");
    until_usage_is(&world, &organization, &expected()).await;
    world.finish().await;
}
