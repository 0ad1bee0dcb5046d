//! Days that are too old: dropped as a whole, or kept as a whole while a delivery is pending.

use e2e::{Endpoint, Organization, World, until};
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{
    day, disabled_endpoint, drop_partitions, make_partitions, old_event, tables_of, until_dropped,
    until_tables_are,
};
use crate::setup;

/// Without a worker, which is to keep things for ten days, and with an endpoint that nothing is sent to.
async fn start() -> (World, Organization, Endpoint) {
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    (world, organization, endpoint)
}

#[tokio::test]
async fn days_older_than_the_retention_are_dropped_unless_a_delivery_is_pending() {
    let mut world = setup()
        .replicas(1, 0)
        .worker_env("RETENTION", "10days")
        .start()
        .await;
    drop_partitions(&world).await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    for days in [9, 12, 14] {
        make_partitions(&world, days).await;
    }
    old_event(&world, &organization, endpoint, 9, "delivered").await;
    let pending = old_event(&world, &organization, endpoint, 12, "pending").await;
    let dropped = old_event(&world, &organization, endpoint, 14, "dead").await;
    // These have no partition of their own.
    let old = old_event(&world, &organization, endpoint, 20, "dead").await;
    let old_pending = old_event(&world, &organization, endpoint, 21, "pending").await;

    world.stack_mut().add_worker().await.unwrap();
    world.until_worker_logs("deliveries are still pending").await;
    until_dropped(&mut world, 14, 0).await;
    until("the old event to be gone", async || {
        match world.stored_data(old).await.len() {
            0 => Ok(()),
            left => Err(left.to_string()),
        }
    })
    .await;
    assert_eq!((tables_of(&world, 9).await, tables_of(&world, 12).await), (4, 4));
    until_tables_are(&world, -1, 4).await;
    assert!(world.stored_data(dropped).await.is_empty());
    for kept in [pending, old_pending] {
        assert_eq!(world.stored_data(kept).await, [b"[1]"]);
        assert_eq!(world.deliveries_of(kept).await.len(), 1);
    }
    until("the day that is kept to be counted", async || {
        let days = world
            .gauge(world.stack().worker(0), "penstock_partitions_kept_past_retention")
            .await;
        if days == Some(1.0) {
            Ok(())
        } else {
            Err(format!("{days:?}"))
        }
    })
    .await;
    world.finish().await;
}

/// Told again by no other round of any worker.
#[tokio::test]
async fn owners_are_told_once_which_of_their_endpoints_keeps_a_day() {
    let (mut world, organization, endpoint) = start().await;
    let receiver = world.receiver().await;
    let types = json!({"event_types": ["partition.*"]});
    world.endpoint_with(&organization, &receiver, types).await;
    let other = world.organization().await;
    let other_receiver = world.receiver().await;
    let types = json!({"event_types": ["partition.kept"]});
    world.endpoint_with(&other, &other_receiver, types).await;
    for days in [12, 13] {
        make_partitions(&world, days).await;
    }
    for _ in 0..3 {
        old_event(&world, &organization, endpoint, 12, "pending").await;
    }
    old_event(&world, &organization, endpoint, 13, "dead").await;
    world.stack_mut().add_worker().await.unwrap();
    let webhooks = receiver.wait_for(1).await;
    let body = webhooks[0].parse();
    let data: Value = serde_json::from_str(body.data.get()).unwrap();
    let kept = world.day(12).await;
    assert_eq!(body.r#type, "partition.kept");
    assert_eq!(
        data,
        json!({"endpoint_id": endpoint.id, "day": kept, "pending_deliveries": 3})
    );

    // Its first round is over when it has removed what is too old.
    let old = "insert into usage (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
               values (gen_random_uuid(), '2020-01-01', '', 0, 1, 1, 1, 1, 1)";
    sqlx::query(old).execute(world.database()).await.unwrap();
    world.restart_worker().await;
    let left = "select count(*) from usage where day = '2020-01-01'";
    world.until_count_is("another round", left, 0).await;
    let told = "select (select count(*) from operational_events) + (select count(*) from events where type = 'partition.kept')";
    assert_eq!((world.count(told).await, other_receiver.count()), (1, 0));
    world.finish().await;
}

#[tokio::test]
async fn owners_are_not_told_again_of_a_day_that_was_busy_when_a_worker_looked() {
    let (mut world, organization, endpoint) = start().await;
    make_partitions(&world, 12).await;
    old_event(&world, &organization, endpoint, 12, "pending").await;
    world.stack_mut().add_worker().await.unwrap();
    let notices = "select count(*) from kept_day_notices";
    world.until_count_is("the owner to be told", notices, 1).await;
    let worker = world.stack_mut().worker_mut(0);
    worker.kill().await.unwrap();
    let of_gone = "insert into kept_day_notices (endpoint_id, org_id, day)
                   select endpoint_id, org_id, '2020-01-01' from kept_day_notices";
    world.execute(of_gone).await;
    let mut busy = world.database().begin().await.unwrap();
    let deliveries = format!(
        "lock table deliveries_{} in access exclusive mode",
        day(&world, 12).await
    );
    let locked = sqlx::query(AssertSqlSafe(deliveries)).execute(&mut *busy);
    locked.await.unwrap();
    let worker = world.stack_mut().worker_mut(0);
    worker.start().await.unwrap();
    world.until_worker_logs("a table is busy").await;
    busy.rollback().await.unwrap();
    let gone = "select count(*) from kept_day_notices where day = '2020-01-01'";
    world
        .until_count_is("the day that is gone to be forgotten", gone, 0)
        .await;
    assert_eq!(world.count(notices).await, 1);
    world.finish().await;
}

/// What holds a lock on one table of a day, such as a backup, and a worker that looks beside it.
#[tokio::test]
async fn a_day_of_which_one_table_is_busy_stays_as_a_whole() {
    let (mut world, organization, endpoint) = start().await;
    make_partitions(&world, 12).await;
    let kept = old_event(&world, &organization, endpoint, 12, "delivered").await;
    let mut backup = world.database().begin().await.unwrap();
    let attempts = format!("select from attempts_{}", day(&world, 12).await);
    let read = sqlx::query(AssertSqlSafe(attempts)).execute(&mut *backup);
    read.await.unwrap();

    world.stack_mut().add_worker().await.unwrap();
    world.until_worker_logs("a table is busy").await;
    assert_eq!(tables_of(&world, 12).await, 4);
    assert_eq!(world.deliveries_of(kept).await.len(), 1);
    backup.rollback().await.unwrap();
    let told = world.stack().worker(0).log().matches("a table is busy").count();
    world.restart_worker().await;
    until_dropped(&mut world, 12, told).await;
    world.finish().await;
}

/// The day's own partition of deliveries is gone, as releases before this one left it: they are in the default one.
#[tokio::test]
async fn a_day_whose_pending_delivery_is_in_the_default_partition_keeps_its_events() {
    let (mut world, organization, endpoint) = start().await;
    make_partitions(&world, 12).await;
    let day = day(&world, 12).await;
    world.execute(format!("drop table deliveries_{day}")).await;
    let pending = old_event(&world, &organization, endpoint, 12, "pending").await;
    world.stack_mut().add_worker().await.unwrap();
    world.until_worker_logs("deliveries are still pending").await;
    assert_eq!(tables_of(&world, 12).await, 3);
    assert_eq!(world.stored_data(pending).await, [b"[1]"]);
    world.finish().await;
}

/// Readers of all deliveries would queue up behind a worker that takes the table for itself, which a reader of the day
/// makes wait.
#[tokio::test]
async fn a_day_that_is_kept_is_looked_at_without_a_lock_on_its_tables() {
    let (mut world, organization, endpoint) = start().await;
    make_partitions(&world, 12).await;
    old_event(&world, &organization, endpoint, 12, "pending").await;
    let mut reader = world.database().begin().await.unwrap();
    let deliveries = format!("select from deliveries_{}", day(&world, 12).await);
    let read = sqlx::query(AssertSqlSafe(deliveries)).execute(&mut *reader);
    read.await.unwrap();
    world.stack_mut().add_worker().await.unwrap();
    // Had it asked for the lock, it would not have got as far as to see what is pending.
    world.until_worker_logs("deliveries are still pending").await;
    assert!(!world.stack().worker(0).log().contains("a table is busy"));
    reader.rollback().await.unwrap();
    world.finish().await;
}
