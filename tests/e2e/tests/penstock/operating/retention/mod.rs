//! What is kept, and what is removed: days, payloads, idempotency keys, and the deliveries of deleted endpoints.

mod days;
mod partitions;
mod payloads;
mod removals;
mod clocks;
mod keys;

use e2e::{Answer, Endpoint, Organization, World, until};
use shared::domain::id::EventId;
use uuid::Uuid;

use crate::calls::send;
use crate::setup;

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
    world
        .execute(format!(
            "insert into events (org_id, accepted_at, id, type, content_type, data)
             values ('{org}', {at}, '{id}', 'old', 'application/json', '[1]');
             insert into deliveries (org_id, event_id, endpoint_id, accepted_at, status, next_attempt_at, finished_at)
             values ('{org}', '{id}', '{endpoint}', {at}, '{status}', {due}, {finished});
             insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms, outcome,
                                   response_body)
             values ('{org}', '{id}', '{endpoint}', {at}, 1, {at}, 1, 'status', 'secret');"
        ))
        .await;
    id
}

/// A day as the names of its tables end.
async fn day(world: &World, days: i32) -> String {
    world.day(days).await.replace('-', "")
}

/// As migrations leave the tables, before the first worker starts.
async fn drop_partitions(world: &World) {
    world
        .execute(
            "do $$ begin
                 execute 'drop table ' || (
                     select string_agg(inhrelid::regclass::text, ', ') from pg_inherits
                     where inhparent = any(array['events', 'deliveries', 'attempts', 'inbox_acknowledgements']::regclass[])
                       and inhrelid::regclass::text !~ '_default$'
                 );
             end $$",
        )
        .await;
}

pub(crate) async fn make_partitions(world: &World, days: i32) {
    let day = day(world, days).await;
    for table in ["events", "deliveries", "attempts", "inbox_acknowledgements"] {
        world
            .execute(format!(
                "create table {table}_{day} (like {table} including all);
                 alter table {table} attach partition {table}_{day}
                     for values from ('{day}T00:00:00Z') to ('{day}T24:00:00Z');"
            ))
            .await;
    }
}

pub(crate) async fn tables_of(world: &World, days: i32) -> usize {
    let query =
        sqlx::query_scalar("select count(*) from pg_class where relkind = 'r' and relname like '%\\_' || $1");
    let count: i64 = query
        .bind(day(world, days).await)
        .fetch_one(world.database())
        .await
        .expect("Postgres answers");
    usize::try_from(count).expect("it is what the test wrote")
}

/// Waits until a day has so many tables.
async fn until_tables_are(world: &World, days: i32, count: usize) {
    let awaited = format!("{count} tables of the day {days} days ago");
    until(&awaited, async || {
        let seen = tables_of(world, days).await;
        (seen == count).then_some(()).ok_or_else(|| seen.to_string())
    })
    .await;
}

/// Waits until a day is dropped. A worker that finds a table busy tries again in an hour; this one is started again instead. It
/// has said so `known` times before.
pub(crate) async fn until_dropped(world: &mut World, days: i32, mut known: usize) {
    until("the day to be gone", async || {
        let left = tables_of(world, days).await;
        if left == 0 {
            return Ok(());
        }
        let told = world.stack().worker(0).log().matches("a table is busy").count();
        if told > known {
            known = told;
            world.restart_worker().await;
        }
        Err(left.to_string())
    })
    .await;
}

/// An endpoint that nothing is sent to.
pub(crate) async fn disabled_endpoint(world: &mut World, organization: &Organization) -> Endpoint {
    let receiver = world.receiver().await;
    let endpoint = world.endpoint(organization, &receiver).await;
    world
        .execute(format!(
            "update endpoints set status = 'disabled' where id = '{}'",
            endpoint.id
        ))
        .await;
    endpoint
}

pub(crate) async fn keep_payloads_for_a_week(world: &World, organization: &Organization) {
    world
        .execute(format!(
            "update organizations set payload_retention_days = 7 where id = '{}'",
            organization.id
        ))
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
async fn what_was_pending_for_a_deleted_endpoint_ends() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    receiver.answer(|_| Answer::status(500));
    let endpoint = world.endpoint(&organization, &receiver).await;
    send(&world.producer(&organization), 20).await;
    world.until_deliveries_are_stored(20).await;
    world
        .execute(format!(
            "update endpoints set deleted_at = now() where id = '{}'",
            endpoint.id
        ))
        .await;
    world.until_deliveries_are(20, "dead").await;
    let outcomes = sqlx::query_scalar("select distinct last_outcome from deliveries");
    let outcomes: Vec<String> = outcomes.fetch_all(world.database()).await.unwrap();
    assert_eq!(outcomes, ["endpoint_deleted"]);
    world.finish().await;
}
