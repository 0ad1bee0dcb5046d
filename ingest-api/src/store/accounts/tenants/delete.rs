//! Deleting tenants.

use shared::domain::id::OrgId;
use shared::domain::name::Tenant;

use super::lock_endpoints;
use crate::domain::access::key::KeyId;
use crate::store::accounts::ended_sessions::end_all;
use crate::store::{Result, Store, lock_organization};

impl Store {
    /// Begins to delete a tenant: its keys are revoked and its endpoints are deleted. Workers remove the rest. Returns its
    /// keys; None when there is no such tenant. With a version, only while the tenant has this one.
    pub(crate) async fn delete_tenant(
        &self,
        org_id: OrgId,
        tenant: &Tenant,
        version: Option<i64>,
    ) -> Result<Option<Vec<KeyId>>> {
        let mut transaction = self.begin_change(&self.pool).await?;
        if !lock_organization(&mut transaction, org_id).await? {
            return Ok(None);
        }
        let deleting = sqlx::query_scalar!(
            r#"update tenants set status = 'deleting', updated_at = now(), version = version + 1,
                                  deleting_since = coalesce(deleting_since, now())
               where org_id = $1 and uid = $2 and ($3::bigint is null or version = $3)
               returning true as "there!""#,
            org_id.as_uuid(),
            tenant.as_str(),
            version,
        );
        if deleting.fetch_optional(&mut *transaction).await?.is_none() {
            return Ok(None);
        }
        let keys = sqlx::query_scalar!(
            r#"update api_keys set revoked_at = coalesce(revoked_at, now())
               where org_id = $1 and tenant = $2 returning id as "id: KeyId""#,
            org_id.as_uuid(),
            tenant.as_str(),
        );
        let keys = keys.fetch_all(&mut *transaction).await?;
        lock_endpoints(&mut transaction, org_id, tenant).await?;
        sqlx::query!(
            "with deleted as (
                 update endpoints set deleted_at = now()
                 where org_id = $1 and tenant = $2 and deleted_at is null
                 returning id
             )
             update recoveries r set status = 'cancelled', finished_at = now()
             from deleted where r.endpoint_id = deleted.id and r.org_id = $1 and r.status = 'running'",
            org_id.as_uuid(),
            tenant.as_str(),
        )
        .execute(&mut *transaction)
        .await?;
        // Last: replicas look for it by its time, and only some time back.
        end_all(&mut transaction, org_id, tenant).await?;
        transaction.commit().await?;
        Ok(Some(keys))
    }
}
