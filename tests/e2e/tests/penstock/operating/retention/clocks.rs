//! Days that a wrong clock dated.

use e2e::with_wrong_clock;
use sqlx::AssertSqlSafe;

use super::{
    day, disabled_endpoint, drop_partitions, keep_payloads_for_a_week, make_partitions, old_event, tables_of,
    until_payload_is_gone, until_tables_are,
};
use crate::calls::send;
use crate::{setup, skip};

#[tokio::test]
async fn a_day_that_a_wrong_clock_dated_ahead_gets_its_own_partitions_with_what_was_there() {
    let mut world = setup().replicas(1, 0).start().await;
    drop_partitions(&world).await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    let ahead = old_event(&world, &organization, endpoint, -2, "delivered").await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.stack_mut().add_worker().await.unwrap();
    send(&world.producer(&organization), 1).await;
    receiver.wait_for(1).await;
    for days in [-1, -2] {
        until_tables_are(&world, days, 4).await;
    }
    assert_eq!(world.stored_data(ahead).await, [b"[1]"]);
    let day = day(&world, -2).await;
    for table in ["events", "deliveries", "attempts"] {
        let rows = format!(
            "select count(*) from {table}_{day} where org_id = '{}'",
            organization.id
        );
        let rows: i64 = sqlx::query_scalar(AssertSqlSafe(rows))
            .fetch_one(world.database())
            .await
            .unwrap();
        assert_eq!(rows, 1, "{table}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_day_with_many_rows_that_a_wrong_clock_dated_ahead_stays_in_the_default_partition() {
    let mut world = setup().replicas(1, 0).start().await;
    drop_partitions(&world).await;
    let organization = world.organization().await;
    world
        .execute(format!(
            "insert into events (org_id, accepted_at, id, type, content_type, data)
             select '{}', now() + interval '2 days', gen_random_uuid(), 'ahead', 'application/json', '1'
             from generate_series(1, 10001)",
            organization.id
        ))
        .await;
    world.stack_mut().add_worker().await.unwrap();
    world.until_worker_logs("the day stays there").await;
    for (days, tables) in [(-1, 4), (-2, 3)] {
        until_tables_are(&world, days, tables).await;
    }
    world.finish().await;
}

#[tokio::test]
async fn a_worker_whose_clock_is_a_month_ahead_drops_no_day_too_early() {
    let Some(ahead) = with_wrong_clock("+30d") else {
        skip("libfaketime is not installed (Debian: apt-get install libfaketime)");
        return;
    };
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    drop_partitions(&world).await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    keep_payloads_for_a_week(&world, &organization).await;
    make_partitions(&world, 9).await;
    let kept = old_event(&world, &organization, endpoint, 9, "delivered").await;
    world.stack_mut().add_worker_with(ahead).await.unwrap();
    // Payloads are removed after days are dropped.
    until_payload_is_gone(&world, kept).await;
    assert_eq!(tables_of(&world, 9).await, 4);
    until_tables_are(&world, -1, 4).await;
    assert_eq!(tables_of(&world, -30).await, 0);
    world.finish().await;
}
