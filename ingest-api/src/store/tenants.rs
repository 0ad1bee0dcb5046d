//! Tenants.

mod delete;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::{MAX_NAME_BYTES, Tenant};
use time::OffsetDateTime;

use super::owners::add_tenant;
use super::{MAX_COUNTED, Result, Store, lock_organization};
use crate::domain::maximum::Maximum;
use crate::domain::quota::QuotaAction;
use crate::domain::tenant::{TenantSettings, TenantStatus};

/// A stored tenant.
#[derive(Debug)]
pub(crate) struct TenantRow {
    pub uid: Tenant,
    pub settings: TenantSettings,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    /// Each change of the tenant changes it.
    pub version: i64,
    /// Its events whose payloads are still to be removed; None unless it is being deleted.
    pub events_left: Option<i64>,
}

/// Which tenants a page holds.
#[derive(Debug)]
pub(crate) struct TenantFilter<'a> {
    /// The organisation's.
    pub org_id: OrgId,
    /// Whose id begins so.
    pub prefix: &'a str,
    /// After this one.
    pub after: &'a str,
    /// At most this many.
    pub limit: i64,
}

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

/// The columns that a look-up selects.
struct Found {
    uid: Tenant,
    name: String,
    metadata: String,
    rate_limit_per_minute: Option<i64>,
    events_per_month: Option<i64>,
    quota_action: QuotaAction,
    status: TenantStatus,
    created_at: OffsetDateTime,
    updated_at: OffsetDateTime,
    version: i64,
    events_left: Option<i64>,
}

impl From<Found> for TenantRow {
    fn from(found: Found) -> Self {
        let limit = found
            .rate_limit_per_minute
            .and_then(|limit| u32::try_from(limit).ok());
        Self {
            uid: found.uid,
            settings: TenantSettings {
                name: found.name,
                // It is what this service wrote.
                metadata: serde_json::from_str(&found.metadata).unwrap_or_default(),
                rate_limit_per_minute: limit.and_then(NonZeroU32::new),
                events_per_month: found.events_per_month.and_then(|events| events.try_into().ok()),
                quota_action: found.quota_action,
                status: found.status,
            },
            created_at: found.created_at,
            updated_at: found.updated_at,
            version: found.version,
            events_left: found.events_left,
        }
    }
}

/// The limit of a tenant.
#[derive(Debug)]
pub(crate) struct TenantLimit {
    pub org_id: OrgId,
    pub tenant: String,
    /// None is no limit of its own.
    pub per_minute: Option<u64>,
}

impl Store {
    /// The limits of the tenants that were changed in the last `within`; without it, of all that have one. Tenants without a
    /// limit are left out unless `with_unlimited`.
    pub(crate) async fn tenant_limits(
        &self,
        within: Option<Duration>,
        with_unlimited: bool,
    ) -> Result<Vec<TenantLimit>> {
        // Two branches, so that the second one has its index.
        let rows = sqlx::query!(
            r#"select org_id as "org_id!: OrgId", uid as "uid!", rate_limit_per_minute from tenants
               where $1::float8 is null and rate_limit_per_minute is not null
               union all
               select org_id, uid, rate_limit_per_minute from tenants
               where updated_at > now() - $1::float8 * interval '1 second'
                 and ($2 or rate_limit_per_minute is not null)"#,
            within.map(|within| within.as_secs_f64()),
            with_unlimited,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        let read = rows.into_iter().map(|row| TenantLimit {
            org_id: row.org_id,
            tenant: row.uid,
            per_minute: row
                .rate_limit_per_minute
                .and_then(|limit| u64::try_from(limit).ok()),
        });
        Ok(read.collect())
    }

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

    /// One tenant.
    pub(crate) async fn find_tenant(&self, org_id: OrgId, tenant: &Tenant) -> Result<Option<TenantRow>> {
        let found = sqlx::query_as!(
            Found,
            r#"select uid as "uid: Tenant", name, metadata, rate_limit_per_minute, events_per_month,
                      quota_action as "quota_action: QuotaAction", status as "status: TenantStatus", created_at, updated_at,
                      version,
                      case when status = 'deleting' then (
                          select count(*) from (
                              select from events e where e.org_id = t.org_id and e.tenant = t.uid limit $3
                          ) counted
                      ) end as events_left
               from tenants t where org_id = $1 and uid = $2"#,
            org_id.as_uuid(),
            tenant.as_str(),
            MAX_COUNTED,
        );
        Ok(found.fetch_optional(&self.pool).await?.map(Into::into))
    }

    /// A page of tenants by their ids, with one more when there are more.
    pub(crate) async fn list_tenants(&self, filter: &TenantFilter<'_>) -> Result<Vec<TenantRow>> {
        // Postgres compares ids by their bytes. No id goes on with more of the last character than fit into one, so those with
        // the prefix end before that.
        let end = [filter.prefix, &String::from(char::MAX).repeat(MAX_NAME_BYTES)].concat();
        let found = sqlx::query_as!(
            Found,
            r#"select uid as "uid: Tenant", name, metadata, rate_limit_per_minute, events_per_month,
                      quota_action as "quota_action: QuotaAction", status as "status: TenantStatus", created_at, updated_at,
                      version, null::bigint as events_left
               from tenants
               where org_id = $1 and uid > $2 and uid >= $3 and uid < $4
               order by uid limit $5"#,
            filter.org_id.as_uuid(),
            filter.after,
            filter.prefix,
            end,
            filter.limit + 1,
        );
        let found = found.fetch_all(&self.pool).await?;
        Ok(found.into_iter().map(Into::into).collect())
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

/// Locks a tenant's endpoints: all of them before the row of the version, which the first one that is changed locks.
async fn lock_endpoints(transaction: &mut Transaction, org_id: OrgId, tenant: &Tenant) -> Result<()> {
    sqlx::query!(
        "select from endpoints where org_id = $1 and tenant = $2 and deleted_at is null order by id for no key update",
        org_id.as_uuid(),
        tenant.as_str(),
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

fn metadata_text(metadata: &BTreeMap<String, String>) -> String {
    serde_json::to_string(metadata).expect("a map of strings can be written as JSON")
}
