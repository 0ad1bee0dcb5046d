//! The rows of a deleted organisation that do not grow with its events.
//!
//! Of some there may be very many: endpoints with what is kept about them, keys, counts of usage and entries of the audit log. They go
//! in steps. What is left then goes in one transaction with the organisation.

use shared::domain::id::OrgId;
use sqlx::PgPool;

use crate::chores::deleted::erasing::{BEGINNING, Place, STEP, STEPS, begin_erasing, empty_audit_log, lock};
use crate::store::usage;
use crate::store::usage::removal::forget_organization;

/// Removes them, and the organisation. False when they are too many for one round, or usage is being counted: later then.
pub(super) async fn finish(pool: &PgPool, id: OrgId) -> Result<bool, sqlx::Error> {
    let mut emptied_through = BEGINNING;
    for _ in 0..STEPS {
        let Some(counts) = remove_counts(pool, id).await? else {
            return Ok(false);
        };
        let changed = counts
            + remove_endpoints(pool, id).await?
            + remove_keys(pool, id).await?
            + empty_entries(pool, id, &mut emptied_through).await?;
        if changed == 0 {
            return remove_rest(pool, id, emptied_through).await;
        }
    }
    Ok(false)
}

/// Removes some counts of usage. `None` when usage is being counted.
async fn remove_counts(pool: &PgPool, id: OrgId) -> Result<Option<u64>, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if !usage::try_lock(&mut transaction).await? {
        return Ok(None);
    }
    let removed = forget_organization(&mut transaction, id, STEP).await?;
    transaction.commit().await?;
    Ok(Some(removed))
}

/// Removes some endpoints, and what is kept about them.
async fn remove_endpoints(pool: &PgPool, id: OrgId) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    lock(&mut transaction, id).await?;
    begin_erasing(&mut transaction).await?;
    // Locked, so that nobody writes more about them meanwhile.
    let endpoints = sqlx::query_scalar!(
        "select id from endpoints where org_id = $1 limit $2 for update",
        id.as_uuid(),
        STEP,
    );
    let endpoints = endpoints.fetch_all(&mut *transaction).await?;
    if endpoints.is_empty() {
        return Ok(0);
    }
    sqlx::query!(
        "delete from certificate_notices where endpoint_id = any($1)",
        &endpoints
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from kept_day_notices where endpoint_id = any($1)",
        &endpoints
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!("delete from recoveries where endpoint_id = any($1)", &endpoints)
        .execute(&mut *transaction)
        .await?;
    sqlx::query!(
        "delete from endpoint_health where endpoint_id = any($1)",
        &endpoints
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::query!(
        "delete from endpoint_pace where endpoint_id = any($1)",
        &endpoints
    )
    .execute(&mut *transaction)
    .await?;
    let removed = sqlx::query!("delete from endpoints where id = any($1)", &endpoints)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(removed.rows_affected())
}

/// Removes some keys, the oldest first: a key that was replaced refers to the one that replaces it.
async fn remove_keys(pool: &PgPool, id: OrgId) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    lock(&mut transaction, id).await?;
    begin_erasing(&mut transaction).await?;
    let removed = sqlx::query!(
        "with next as materialized (
             select id from api_keys where org_id = $1 order by created_at limit $2
         )
         delete from api_keys k using next n
         where k.id = n.id
           -- Postgres's clock may have gone back between the two.
           and not exists (
               select from api_keys replaced
               where replaced.replaced_by = k.id and replaced.id not in (select id from next)
           )",
        id.as_uuid(),
        STEP,
    )
    .execute(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(removed.rows_affected())
}

/// Empties some entries of the audit log.
async fn empty_entries(pool: &PgPool, id: OrgId, through: &mut Place) -> Result<u64, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    begin_erasing(&mut transaction).await?;
    let emptied = empty_audit_log(&mut transaction, id, None, through).await?;
    transaction.commit().await?;
    Ok(emptied)
}

/// Removes what is left, and the organisation. False when usage is being counted.
async fn remove_rest(pool: &PgPool, id: OrgId, mut emptied_through: Place) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    if !usage::try_lock(&mut transaction).await? {
        return Ok(false);
    }
    lock(&mut transaction, id).await?;
    forget_organization(&mut transaction, id, i64::MAX).await?;
    begin_erasing(&mut transaction).await?;
    empty_audit_log(&mut transaction, id, None, &mut emptied_through).await?;
    sqlx::query!("delete from quarantine where org_id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from operational_events where org_id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from kept_day_notices where org_id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from ended_sessions where org_id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from portals where org_id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from api_keys where org_id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    sqlx::query!("delete from organizations where id = $1", id.as_uuid())
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(true)
}
