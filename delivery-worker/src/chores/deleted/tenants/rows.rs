//! The rows of a deleted tenant that do not grow with its events.
//!
//! Of some there may be very many: counts of usage, entries of the audit log, endpoints and keys. They go in steps, each one transaction,
//! and the tenant goes with the last of them.

use sqlx::{PgConnection, PgPool};

use super::{Deleting, is_deleting};
use crate::chores::deleted::erasing::{BEGINNING, STEP, STEPS, begin_erasing, empty_audit_log, lock};
use crate::store::usage;
use crate::store::usage::removal::forget_tenant;

/// Removes them, and the tenant. False when they are too many for one round, usage is being counted, or somebody else has removed
/// the tenant.
pub(super) async fn finish(pool: &PgPool, tenant: &Deleting) -> Result<bool, sqlx::Error> {
    let mut emptied_through = BEGINNING;
    for _ in 0..STEPS {
        let mut transaction = pool.begin().await?;
        if !usage::try_lock(&mut transaction).await? {
            return Ok(false);
        }
        lock(&mut transaction, tenant.org_id).await?;
        if !is_deleting(&mut transaction, tenant).await? {
            return Ok(false);
        }
        begin_erasing(&mut transaction).await?;
        let (org_id, uid) = (tenant.org_id, &tenant.tenant);
        let changed = [
            forget_tenant(&mut transaction, org_id, uid.as_str(), STEP).await?,
            empty_endpoints(&mut transaction, tenant).await?,
            empty_keys(&mut transaction, tenant).await?,
        ];
        let most = STEP.unsigned_abs();
        // No index has a tenant's entries: those of its organisation are read once, and not again for each step of the others.
        let is_last = changed.into_iter().all(|rows| rows < most)
            && empty_audit_log(&mut transaction, org_id, Some(uid), &mut emptied_through).await? < most;
        if is_last {
            remove(&mut transaction, tenant).await?;
        }
        transaction.commit().await?;
        if is_last {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes what some endpoints hold, and whose they were. They were deleted with the tenant.
async fn empty_endpoints(transaction: &mut PgConnection, tenant: &Deleting) -> Result<u64, sqlx::Error> {
    let emptied = sqlx::query!(
        "update endpoints
         set tenant = null, url = case when url is not null then '' end, description = '', event_types = '{}',
             filter = null, headers = null, secret = '', previous_secret = null, previous_secret_expires_at = null,
             signatures = null, auth = null, template = null, template_content_type = null, certificate_expires_at = null,
             disabled_reason = null
         where id = any(array(
             -- In the words of an index: it has those that are deleted too.
             select id from endpoints where org_id = $1 and coalesce(tenant, '') = $2 limit $3
         ))",
        tenant.org_id.as_uuid(),
        tenant.tenant.as_str(),
        STEP,
    );
    Ok(emptied.execute(transaction).await?.rows_affected())
}

/// Removes what some keys hold, and whose they were. They were revoked with the tenant.
async fn empty_keys(transaction: &mut PgConnection, tenant: &Deleting) -> Result<u64, sqlx::Error> {
    let emptied = sqlx::query!(
        "update api_keys set tenant = null, name = '', scopes = '{}'
         where id = any(array(select id from api_keys where org_id = $1 and tenant = $2 limit $3))",
        tenant.org_id.as_uuid(),
        tenant.tenant.as_str(),
        STEP,
    );
    Ok(emptied.execute(transaction).await?.rows_affected())
}

async fn remove(transaction: &mut PgConnection, tenant: &Deleting) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from tenants where org_id = $1 and uid = $2",
        tenant.org_id.as_uuid(),
        tenant.tenant.as_str(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}
