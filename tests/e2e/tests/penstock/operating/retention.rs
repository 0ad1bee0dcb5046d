//! What is kept, and what is removed: days, payloads, and the deliveries of deleted endpoints.

use e2e::{Answer, Endpoint, Organization, World, until, with_wrong_clock};
use shared::domain::id::EventId;
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::calls::send;
use crate::setup;

async fn execute(world: &World, statement: String) {
    let done = sqlx::raw_sql(AssertSqlSafe(statement))
        .execute(world.database())
        .await;
    done.expect("Postgres runs");
}

/// An event of some days ago, with a delivery.
pub(crate) async fn old_event(
    world: &World,
    organization: &Organization,
    endpoint: Endpoint,
    days: i32,
    status: &str,
) -> EventId {
    let id = EventId::from(Uuid::now_v7());
    let (org, endpoint) = (organization.id, endpoint.id);
    let at = format!("now() - interval '{days} days'");
    let (due, finished) = if status == "pending" {
        (at.as_str(), "null")
    } else {
        ("null", at.as_str())
    };
    execute(
        world,
        format!(
            "insert into events (org_id, accepted_at, id, type, content_type, data)
             values ('{org}', {at}, '{id}', 'old', 'application/json', '[1]');
             insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, next_attempt_at, finished_at)
             values ('{org}', '{id}', '{endpoint}', {at}, '{status}', {due}, {finished});
             insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms, outcome,
                                   response_body)
             values ('{org}', '{id}', '{endpoint}', {at}, 1, {at}, 1, 'status', 'secret');"
        ),
    )
    .await;
    id
}

async fn day(world: &World, days: i32) -> String {
    let query = sqlx::query_scalar("select to_char((now() at time zone 'utc')::date - $1, 'YYYYMMDD')");
    query
        .bind(days)
        .fetch_one(world.database())
        .await
        .expect("Postgres answers")
}

async fn make_partitions(world: &World, days: i32) {
    let day = day(world, days).await;
    for table in ["events", "deliveries", "attempts", "inbox_acknowledgements"] {
        execute(
            world,
            format!(
                "create table {table}_{day} (like {table} including all);
                 alter table {table} attach partition {table}_{day}
                     for values from ('{day}T00:00:00Z') to ('{day}T24:00:00Z');"
            ),
        )
        .await;
    }
}

async fn tables_of(world: &World, days: i32) -> usize {
    let query =
        sqlx::query_scalar("select count(*) from pg_class where relkind = 'r' and relname like '%\\_' || $1");
    let count: i64 = query
        .bind(day(world, days).await)
        .fetch_one(world.database())
        .await
        .expect("Postgres answers");
    usize::try_from(count).expect("it is what the test wrote")
}

/// An endpoint that nothing is sent to.
pub(crate) async fn disabled_endpoint(world: &mut World, organization: &Organization) -> Endpoint {
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(organization, &receiver).await;
    execute(
        world,
        format!(
            "update endpoints set status = 'disabled' where id = '{}'",
            endpoint.id
        ),
    )
    .await;
    endpoint
}

#[tokio::test]
async fn days_older_than_the_retention_are_dropped_unless_a_delivery_is_pending() {
    let mut world = setup()
        .replicas(1, 0)
        .worker_env("RETENTION", "10days")
        .start()
        .await;
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
    until("the old day to be gone", async || {
        match (tables_of(&world, 14).await, world.stored_data(old).await.len()) {
            (0, 0) => Ok(()),
            left => Err(format!("{left:?}")),
        }
    })
    .await;
    assert_eq!((tables_of(&world, 9).await, tables_of(&world, 12).await), (4, 4));
    let tomorrow = tables_of(&world, -1).await;
    assert_eq!(tomorrow, 4);
    assert!(world.stored_data(dropped).await.is_empty());
    for kept in [pending, old_pending] {
        assert_eq!(world.stored_data(kept).await, [b"[1]"]);
        assert_eq!(world.deliveries_of(kept).await.len(), 1);
    }
    until("the day that is kept to be counted", async || {
        let days = world
            .gauge(world.stack().worker(0), "days_kept_past_retention")
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

/// What holds a lock on one table of a day, such as a backup, and a worker that looks beside it.
#[tokio::test]
async fn a_day_of_which_one_table_is_busy_stays_as_a_whole() {
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
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
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world.stack_mut().worker_mut(0).start().await.unwrap();
    until("the day to be gone", async || match tables_of(&world, 12).await {
        0 => Ok(()),
        left => Err(left.to_string()),
    })
    .await;
    world.finish().await;
}

/// The day's own partition of deliveries is gone, as releases before this one left it: they are in the default one.
#[tokio::test]
async fn a_day_whose_pending_delivery_is_in_the_default_partition_keeps_its_events() {
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    make_partitions(&world, 12).await;
    let day = day(&world, 12).await;
    execute(&world, format!("drop table deliveries_{day}")).await;
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
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
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

#[tokio::test]
async fn a_day_that_a_wrong_clock_dated_ahead_gets_its_own_partitions_with_what_was_there() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    let ahead = old_event(&world, &organization, endpoint, -2, "delivered").await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.stack_mut().add_worker().await.unwrap();
    send(&world.producer(&organization), 1).await;
    receiver.wait_for(1).await;
    assert_eq!((tables_of(&world, -1).await, tables_of(&world, -2).await), (4, 4));
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
    let organization = world.organization().await;
    execute(
        &world,
        format!(
            "insert into events (org_id, accepted_at, id, type, content_type, data)
             select '{}', now() + interval '2 days', gen_random_uuid(), 'ahead', 'application/json', '1'
             from generate_series(1, 10001)",
            organization.id
        ),
    )
    .await;
    world.stack_mut().add_worker().await.unwrap();
    world.until_worker_logs("the day stays there").await;
    assert_eq!((tables_of(&world, -1).await, tables_of(&world, -2).await), (4, 3));
    world.finish().await;
}

pub(crate) async fn keep_payloads_for_a_week(world: &World, organization: &Organization) {
    execute(
        world,
        format!(
            "update organizations set payload_retention_days = 7 where id = '{}'",
            organization.id
        ),
    )
    .await;
}

/// The payload, not the event.
pub(crate) async fn until_payload_is_gone(world: &World, id: EventId) {
    until("the payload to be gone", async || {
        match world.stored_data(id).await.as_slice() {
            [data] if data.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test]
async fn payloads_go_after_their_organisations_retention_and_not_before_they_are_delivered() {
    let mut world = setup().replicas(1, 0).start().await;
    let (organization, other) = (world.organization().await, world.organization().await);
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    let others_endpoint = disabled_endpoint(&mut world, &other).await;
    keep_payloads_for_a_week(&world, &organization).await;
    let delivered = old_event(&world, &organization, endpoint, 10, "delivered").await;
    let kept = [
        old_event(&world, &organization, endpoint, 10, "pending").await,
        old_event(&world, &organization, endpoint, 6, "delivered").await,
        old_event(&world, &other, others_endpoint, 10, "delivered").await,
    ];
    let answered = sqlx::query(
        "update deliveries set attempts = 2, last_attempt = 2, last_started_at = now(), last_duration_ms = 1,
                               last_response_body = 'x' where event_id = $1",
    );
    answered.bind(delivered).execute(world.database()).await.unwrap();
    world.stack_mut().add_worker().await.unwrap();
    until_payload_is_gone(&world, delivered).await;
    let body = "select count(response_body) from attempt_history where event_id = $1";
    let body: i64 = sqlx::query_scalar(body)
        .bind(delivered)
        .fetch_one(world.database())
        .await
        .unwrap();
    assert_eq!(body, 0);
    let marked: i64 = sqlx::query_scalar("select count(expunged_at) from events")
        .fetch_one(world.database())
        .await
        .unwrap();
    assert_eq!(marked, 1);
    for kept in kept {
        assert_eq!(world.stored_data(kept).await, [b"[1]"]);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_worker_whose_clock_is_a_month_ahead_drops_no_day_too_early() {
    let Some(ahead) = with_wrong_clock("+30d") else {
        println!("skipped: libfaketime is not installed (Debian: apt-get install libfaketime)");
        return;
    };
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    keep_payloads_for_a_week(&world, &organization).await;
    make_partitions(&world, 9).await;
    let kept = old_event(&world, &organization, endpoint, 9, "delivered").await;
    world.stack_mut().add_worker_with(ahead).await.unwrap();
    // Payloads are removed after days are dropped.
    until_payload_is_gone(&world, kept).await;
    assert_eq!((tables_of(&world, 9).await, tables_of(&world, -1).await), (4, 4));
    assert_eq!(tables_of(&world, -30).await, 0);
    world.finish().await;
}

#[tokio::test]
async fn what_was_pending_for_a_deleted_endpoint_ends() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let endpoint = world.endpoint(&organization, &receiver).await;
    send(&world.producer(&organization), 20).await;
    receiver.wait_for(20).await;
    execute(
        &world,
        format!(
            "update endpoints set deleted_at = now() where id = '{}'",
            endpoint.id
        ),
    )
    .await;
    world.until_deliveries_are(20, "dead").await;
    let outcomes = sqlx::query_scalar("select distinct last_outcome from deliveries");
    let outcomes: Vec<String> = outcomes.fetch_all(world.database()).await.unwrap();
    assert_eq!(outcomes, ["endpoint_deleted"]);
    world.finish().await;
}
