//! After a tenant is deleted: ends the deliveries of its events, removes what the events, their deliveries and its endpoints
//! hold, also its events in quarantine that say whose they are, and at last the tenant itself. Each step is one short transaction
//! and finds by itself what is left, so whichever worker comes next goes on after any crash. A worker that comes late finds that the
//! tenant is not being deleted any more, and leaves one alone that was made again under its name.

mod rows;

use std::time::Duration;

use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use shared::process::nats::Nats;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use super::erasing::{CLOCKS_APART, STEP, STEPS};
use crate::intake::consume::streams::stored_through;
use crate::store::{events, partitions, quarantine};

/// Pause between two looks for tenants.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Tenants in one round.
const TENANTS: i64 = 100;

struct Deleting {
    org_id: OrgId,
    tenant: Tenant,
    since: OffsetDateTime,
}

/// Goes on with the tenants that are being deleted. Says whether there are any.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn take_round(pool: &PgPool, nats: &Nats) -> Result<bool, sqlx::Error> {
    let tenants = sqlx::query_as!(
        Deleting,
        r#"select org_id as "org_id: OrgId", uid as "tenant: Tenant", deleting_since as "since!"
           from tenants where deleting_since is not null order by deleting_since limit $1"#,
        TENANTS,
    )
    .fetch_all(pool)
    .await?;
    if tenants.is_empty() {
        return Ok(false);
    }
    // Looked at before the events are: what was accepted before then is stored by now.
    let now = partitions::now(pool).await?;
    let stored_through = stored_through(nats, now).await;
    for tenant in &tenants {
        let is_clean = remove_events(pool, tenant).await?;
        let is_all_stored = stored_through.is_some_and(|through| through > tenant.since + CLOCKS_APART);
        if is_clean && is_all_stored && rows::finish(pool, tenant).await? {
            tracing::info!(org_id = %tenant.org_id, "a tenant is deleted");
        }
    }
    Ok(true)
}

/// Whether no event of the tenant is left. Those that others have locked are: another worker may be at them, and fail.
async fn remove_events(pool: &PgPool, tenant: &Deleting) -> Result<bool, sqlx::Error> {
    for _ in 0..STEPS {
        if remove_some(pool, tenant).await? == 0 {
            break;
        }
    }
    sqlx::query_scalar!(
        r#"select not exists (select from events where org_id = $1 and tenant = $2)
              and not exists (select from quarantine where org_id = $1 and tenant = $2) as "clean!""#,
        tenant.org_id.as_uuid(),
        tenant.tenant.as_str(),
    )
    .fetch_one(pool)
    .await
}

/// Removes what some events hold, and some that are in quarantine. Returns how many.
async fn remove_some(pool: &PgPool, tenant: &Deleting) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if !is_deleting(&mut transaction, tenant).await? {
        return Ok(0);
    }
    let uid = Some(&tenant.tenant);
    let set_aside = quarantine::remove(&mut *transaction, tenant.org_id, uid, STEP).await?;
    let expunged = expunge_some(&mut transaction, tenant).await?;
    transaction.commit().await?;
    Ok(set_aside + expunged)
}

/// Whether this deletion is not over, which it will not be before the transaction ends.
async fn is_deleting(transaction: &mut PgConnection, tenant: &Deleting) -> Result<bool, sqlx::Error> {
    let found = sqlx::query!(
        "select from tenants where org_id = $1 and uid = $2 and deleting_since = $3 for key share",
        tenant.org_id.as_uuid(),
        tenant.tenant.as_str(),
        tenant.since,
    );
    Ok(found.fetch_optional(transaction).await?.is_some())
}

async fn expunge_some(transaction: &mut PgConnection, tenant: &Deleting) -> Result<u64, sqlx::Error> {
    let expunged = events::expunge(transaction, tenant.org_id, &tenant.tenant, STEP);
    let (times, ids) = expunged.await?;
    if ids.is_empty() {
        return Ok(0);
    }
    sqlx::query!(
        "update deliveries d
         set status = 'dead', last_outcome = 'tenant_deleted', next_attempt_at = null, lease_token = null,
             finished_at = now()
         from unnest($2::timestamptz[], $3::uuid[]) as e (accepted_at, id)
         where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = $1 and d.status = 'pending'",
        tenant.org_id.as_uuid(),
        &times,
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    // Only now: what ends an ordered delivery looks for the next one by its key.
    sqlx::query!(
        "update deliveries d
         set last_response_body = null, last_error = null, ordering_key = null, stream = null, ordinal = null
         from unnest($2::timestamptz[], $3::uuid[]) as e (accepted_at, id)
         where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = $1
           and (d.last_response_body is not null or d.last_error is not null or d.ordering_key is not null)",
        tenant.org_id.as_uuid(),
        &times,
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    // After the deliveries: a result that was being recorded may have added one.
    sqlx::query!(
        "update attempts a set response_body = null, error = null
         from unnest($2::timestamptz[], $3::uuid[]) as e (accepted_at, id)
         where a.event_id = e.id and a.accepted_at = e.accepted_at and a.org_id = $1",
        tenant.org_id.as_uuid(),
        &times,
        &ids,
    )
    .execute(&mut *transaction)
    .await?;
    Ok(ids.len() as u64)
}
