//! Making and changing tenants.

use std::collections::BTreeMap;

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;

use super::lock_endpoints;
use crate::domain::accounts::maximum::Maximum;
use crate::domain::accounts::tenant::{TenantSettings, TenantStatus};
use crate::store::accounts::owners::add_tenant;
use crate::store::{Result, Store, lock_organization};

/// Which tenant is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenantExpected {
    /// One that may be there or not.
    Any,
    /// One that is not there.
    New,
    /// One of this version.
    Version(i64),
}

impl TenantExpected {
    /// Whether it is the one that is there, which has this version. None: none is there.
    fn is(self, version: Option<i64>) -> bool {
        match self {
            Self::Any => true,
            Self::New => version.is_none(),
            Self::Version(expected) => version == Some(expected),
        }
    }
}

/// The result of writing a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TenantWritten {
    /// It is new.
    Made,
    /// It was there.
    Changed,
    /// It is another one than was expected.
    Stale,
    /// It is being deleted.
    Deleting,
    /// There are as many as there may be.
    Full(Maximum),
    /// The organisation does not exist.
    Missing,
}

impl Store {
    /// Writes all that is set of a tenant, provided that it is the one that is expected.
    pub(crate) async fn write_tenant(
        &self,
        org_id: OrgId,
        tenant: &Tenant,
        settings: &TenantSettings,
        expected: TenantExpected,
    ) -> Result<TenantWritten> {
        let mut transaction = self.begin_change(&self.pool).await?;
        if !lock_organization(&mut transaction, org_id).await? {
            return Ok(TenantWritten::Missing);
        }
        let current = sqlx::query!(
            r#"select version, status as "status: TenantStatus" from tenants where org_id = $1 and uid = $2 for update"#,
            org_id.as_uuid(),
            tenant.as_str(),
        );
        let current = current.fetch_optional(&mut *transaction).await?;
        let is_switched = current
            .as_ref()
            .is_some_and(|current| current.status != settings.status);
        let version = current.as_ref().map(|current| current.version);
        let written = match current {
            Some(current) if current.status == TenantStatus::Deleting => return Ok(TenantWritten::Deleting),
            _ if !expected.is(version) => return Ok(TenantWritten::Stale),
            Some(_) => TenantWritten::Changed,
            None => match add_tenant(&mut transaction, org_id, tenant).await? {
                Some(most) => return Ok(TenantWritten::Full(most)),
                None => TenantWritten::Made,
            },
        };
        sqlx::query!(
            "update tenants
             set name = $3, metadata = $4, rate_limit_per_minute = $5, status = $6, events_per_month = $7,
                 quota_action = $8, updated_at = clock_timestamp(), version = version + 1
             where org_id = $1 and uid = $2",
            org_id.as_uuid(),
            tenant.as_str(),
            settings.name,
            metadata_text(&settings.metadata),
            settings.rate_limit_per_minute.map(|limit| i64::from(limit.get())),
            settings.status as _,
            settings
                .events_per_month
                .and_then(|events| i64::try_from(events).ok()),
            settings.quota_action as _,
        )
        .execute(&mut *transaction)
        .await?;
        if is_switched {
            let enabled = settings.status == TenantStatus::Enabled;
            switch_endpoints(&mut transaction, org_id, tenant, enabled).await?;
        }
        transaction.commit().await?;
        Ok(written)
    }
}

/// Lets a tenant's endpoints get its events, or no longer.
async fn switch_endpoints(
    transaction: &mut Transaction,
    org_id: OrgId,
    tenant: &Tenant,
    enabled: bool,
) -> Result<()> {
    lock_endpoints(transaction, org_id, tenant).await?;
    sqlx::query!(
        "update endpoints set tenant_enabled = $3
         where org_id = $1 and tenant = $2 and deleted_at is null and tenant_enabled <> $3",
        org_id.as_uuid(),
        tenant.as_str(),
        enabled,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn metadata_text(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("a map of strings can be written as JSON")
}
