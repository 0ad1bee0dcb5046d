//! What is removed of the counts of usage: by age, and with a tenant or an organisation.

use shared::domain::id::OrgId;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

/// Days for which they are kept: no quota is measured for a month before the last one.
const TOTALS_DAYS: i64 = 62;

/// Removes the counts of days before `cutoff`, and what is noted of hours before `events_cutoff` that are counted no more.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn remove_before(
    pool: &PgPool,
    now: OffsetDateTime,
    cutoff: OffsetDateTime,
    events_cutoff: OffsetDateTime,
) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from usage where day < $1", cutoff.date())
        .execute(pool)
        .await?;
    sqlx::query!(
        "delete from usage_totals where day < $1",
        (now - time::Duration::days(TOTALS_DAYS)).date()
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "delete from usage_hours where hour < $1",
        cutoff.date().midnight().assume_utc()
    )
    .execute(pool)
    .await?;
    // Of events that a wrong clock dated into a day that is gone, or that never was.
    sqlx::query!(
        "delete from usage_recounts r
         where r.hour < $1
           and not exists (select from usage_hours h where h.hour = r.hour and h.state in ('open', 'settled'))",
        events_cutoff,
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Makes at most `limit` counts of a tenant those of no tenant, so that its organisation's stay what they are, and says how many.
/// Forgets what was measured of its quota. Under the lock of usage.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn forget_tenant(
    transaction: &mut PgConnection,
    org_id: OrgId,
    tenant: &str,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let counts = sqlx::query!(
        "with own as (
             delete from usage
             where ctid = any(array(
                 select ctid from usage where org_id = $1 and tenant = $2 and tenant <> '' limit $3
             ))
             returning day, hour, accepted, bytes, delivered, attempts, dead
         )
         insert into usage as u (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
         select $1, day, '', hour, accepted, bytes, delivered, attempts, dead from own
         on conflict (org_id, day, tenant, hour) do update
         set accepted = u.accepted + excluded.accepted, bytes = u.bytes + excluded.bytes,
             delivered = u.delivered + excluded.delivered, attempts = u.attempts + excluded.attempts,
             dead = u.dead + excluded.dead",
        org_id.as_uuid(),
        tenant,
        limit,
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from quota_uses where org_id = $1 and tenant = $2",
        org_id.as_uuid(),
        tenant,
    )
    .execute(&mut *transaction)
    .await?;
    // That its quota is reached.
    sqlx::query!(
        "delete from operational_events where org_id = $1 and tenant = $2",
        org_id.as_uuid(),
        tenant,
    )
    .execute(transaction)
    .await?;
    Ok(counts.rows_affected())
}

/// Removes at most `limit` rows of each kind that were counted of an organisation, and says how many. Under the lock of usage.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn forget_organization(
    transaction: &mut PgConnection,
    org_id: OrgId,
    limit: i64,
) -> Result<u64, sqlx::Error> {
    let counts = sqlx::query!(
        "delete from usage where ctid = any(array(select ctid from usage where org_id = $1 limit $2))",
        org_id.as_uuid(),
        limit,
    )
    .execute(&mut *transaction)
    .await?;
    let totals = sqlx::query!(
        "delete from usage_totals
         where ctid = any(array(select ctid from usage_totals where org_id = $1 limit $2))",
        org_id.as_uuid(),
        limit,
    )
    .execute(&mut *transaction)
    .await?;
    let quotas = sqlx::query!(
        "delete from quota_uses
         where ctid = any(array(select ctid from quota_uses where org_id = $1 limit $2))",
        org_id.as_uuid(),
        limit,
    )
    .execute(transaction)
    .await?;
    Ok(counts.rows_affected() + totals.rows_affected() + quotas.rows_affected())
}
