//! Tenants.

mod delete;
mod write;

use std::num::NonZeroU32;
use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::{MAX_NAME_BYTES, Tenant};
use time::OffsetDateTime;

pub(crate) use self::write::{TenantExpected, TenantWritten};
use crate::domain::accounts::quota::QuotaAction;
use crate::domain::accounts::tenant::{TenantSettings, TenantStatus};
use crate::store::{MAX_COUNTED, Result, Store};

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
