//! After an organisation is deleted: deletes its endpoints, then removes its events with their deliveries, also those in
//! quarantine that say whose they are, and at last every row of it. Each step is one short transaction and finds by itself what
//! is left, so whichever worker comes next goes on after any crash.

mod rows;

use shared::domain::id::OrgId;
use shared::process::nats::Nats;
use sqlx::PgPool;
use time::OffsetDateTime;

use super::erasing::{CLOCKS_APART, STEP, STEPS, begin_erasing, lock};
use crate::intake::consume::streams::stored_through;
use crate::store::{partitions, quarantine};

/// Organisations in one round.
const ORGANIZATIONS: i64 = 100;

struct Deleting {
    id: OrgId,
    since: OffsetDateTime,
}

/// Goes on with the organisations that are being deleted. Says whether there are any.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn take_round(pool: &PgPool, nats: &Nats) -> Result<bool, sqlx::Error> {
    let organizations = sqlx::query_as!(
        Deleting,
        r#"select id as "id: OrgId", deleting_since as "since!" from organizations
           where deleting_since is not null order by deleting_since limit $1"#,
        ORGANIZATIONS,
    )
    .fetch_all(pool)
    .await?;
    if organizations.is_empty() {
        return Ok(false);
    }
    // Looked at before the events are: what was accepted before then is stored by now.
    let now = partitions::now(pool).await?;
    let stored_through = stored_through(nats, now).await;
    for organization in &organizations {
        let is_all_stored = stored_through.is_some_and(|through| through > organization.since + CLOCKS_APART);
        let is_clean = remove(pool, organization.id).await?;
        if is_clean && is_all_stored && rows::finish(pool, organization.id).await? {
            tracing::info!(org_id = %organization.id, "an organisation is deleted");
        }
    }
    Ok(true)
}

/// Whether nothing is left but what [`rows::finish`] removes.
async fn remove(pool: &PgPool, id: OrgId) -> Result<bool, sqlx::Error> {
    for _ in 0..STEPS {
        let changed = end_endpoints(pool, id).await?
            + remove_events(pool, id).await?
            + quarantine::remove(pool, id, None, STEP).await?
            + remove_tenants(pool, id).await?;
        if changed == 0 {
            break;
        }
    }
    // Others may have locked some of them.
    sqlx::query_scalar!(
        r#"select not exists (select from events where org_id = $1)
              and not exists (select from quarantine where org_id = $1)
              and not exists (select from tenants where org_id = $1)
              and not exists (select from endpoints where org_id = $1 and deleted_at is null) as "clean!""#,
        id.as_uuid(),
    )
    .fetch_one(pool)
    .await
}

/// Deletes some endpoints, so that nothing more is sent to them.
async fn end_endpoints(pool: &PgPool, id: OrgId) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    lock(&mut transaction, id).await?;
    let ended = sqlx::query!(
        "update endpoints e set deleted_at = now()
         from (
             select id from endpoints where org_id = $1 and deleted_at is null order by id limit $2 for no key update
         ) next
         where e.id = next.id and e.org_id = $1",
        id.as_uuid(),
        STEP,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(ended.rows_affected())
}

/// Removes some events with all that belongs to them.
async fn remove_events(pool: &PgPool, id: OrgId) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let events = sqlx::query!(
        "with next as (
             select accepted_at, id from events where org_id = $1 order by accepted_at, id limit $2
             for update skip locked
         )
         delete from events e using next n
         where e.org_id = $1 and e.accepted_at = n.accepted_at and e.id = n.id
         returning e.accepted_at, e.id",
        id.as_uuid(),
        STEP,
    );
    let events = events.fetch_all(&mut *transaction).await?;
    let (times, ids): (Vec<_>, Vec<_>) = events.iter().map(|event| (event.accepted_at, event.id)).unzip();
    if events.is_empty() {
        return Ok(0);
    }
    sqlx::query!(
        "delete from deliveries d using unnest($2::timestamptz[], $3::uuid[]) as e (accepted_at, id)
         where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = $1",
        id.as_uuid(),
        &times,
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    // After the deliveries: a result that was being recorded may have added one.
    sqlx::query!(
        "delete from attempts a using unnest($2::timestamptz[], $3::uuid[]) as e (accepted_at, id)
         where a.event_id = e.id and a.accepted_at = e.accepted_at and a.org_id = $1",
        id.as_uuid(),
        &times,
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from inbox_acknowledgements i using unnest($2::timestamptz[], $3::uuid[]) as e (accepted_at, id)
         where i.event_id = e.id and i.accepted_at = e.accepted_at and i.org_id = $1",
        id.as_uuid(),
        &times,
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from idempotency_keys where org_id = $1 and event_id = any($2)",
        id.as_uuid(),
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(events.len() as u64)
}

async fn remove_tenants(pool: &PgPool, id: OrgId) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    lock(&mut transaction, id).await?;
    begin_erasing(&mut transaction).await?;
    let removed = sqlx::query!(
        "delete from tenants where org_id = $1 and uid in (select uid from tenants where org_id = $1 limit $2)",
        id.as_uuid(),
        STEP,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(removed.rows_affected())
}
