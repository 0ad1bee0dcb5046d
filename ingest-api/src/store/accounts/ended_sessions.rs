//! Sessions that were ended before their time.

use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use crate::domain::access::session::{SessionId, TenantMark};
use crate::domain::accounts::tenant::TenantStatus;
use crate::store::{Result, Store};

/// Longest life of any session.
const LONGEST_SECONDS: f64 = 7.0 * 86_400.0;

/// Most sessions of a tenant's portal that are ended one by one. The next one ends all of them.
const MAX_SINGLE: i64 = 1_000;

/// What was ended.
#[derive(Debug)]
pub(crate) struct EndedRow {
    /// None for a session of the console.
    pub org_id: Option<OrgId>,
    /// None for a session of the console, and for all of an organisation's.
    pub tenant_mark: Option<TenantMark>,
    /// None for all of the tenant's, or of the organisation's.
    pub session_id: Option<SessionId>,
    /// When it was ended.
    pub ended_at: OffsetDateTime,
    /// Until when it matters.
    pub keep_until: OffsetDateTime,
}

impl Store {
    /// What was ended in the last `within`; without it, all that still matters.
    pub(crate) async fn ended_sessions(&self, within: Option<Duration>) -> Result<Vec<EndedRow>> {
        let rows = sqlx::query_as!(
            EndedRow,
            r#"select org_id as "org_id: OrgId", tenant_mark as "tenant_mark: TenantMark",
                      session_id as "session_id: SessionId", ended_at, keep_until
               from ended_sessions
               where keep_until > now()
                 and ended_at > coalesce(now() - $1::float8 * interval '1 second', '-infinity')"#,
            within.map(|within| within.as_secs_f64()),
        );
        rows.fetch_all(&self.key_lookups).await
    }

    /// The time at which a session of this tenant's portal is made. None when there is no such tenant, or its organisation is
    /// being deleted. Whoever deletes either ends the sessions of before.
    pub(crate) async fn begin_portal_session(
        &self,
        org_id: OrgId,
        tenant: &Tenant,
    ) -> Result<Option<(TenantStatus, OffsetDateTime)>> {
        let found = sqlx::query!(
            r#"select status as "status: TenantStatus", clock_timestamp() as "now!" from tenants
               where org_id = $1 and uid = $2
                 and exists (select from organizations where id = $1 and deleting_since is null)
               for share"#,
            org_id.as_uuid(),
            tenant.as_str(),
        );
        let found = found.fetch_optional(&self.pool).await?;
        Ok(found.map(|row| (row.status, row.now)))
    }

    /// Ends a session of the console.
    pub(crate) async fn end_console_session(&self, id: SessionId) -> Result<()> {
        let mut transaction = self.key_changes.begin().await?;
        drop_old(&mut transaction).await?;
        sqlx::query!(
            "insert into ended_sessions (session_id, keep_until) values ($1, now() + $2 * interval '1 second')
             on conflict do nothing",
            id.as_uuid(),
            LONGEST_SECONDS,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await
    }

    /// Ends a session of a tenant's portal, or all of them. False when there is no such tenant.
    pub(crate) async fn end_portal_sessions(
        &self,
        org_id: OrgId,
        tenant: &Tenant,
        id: Option<SessionId>,
    ) -> Result<bool> {
        let mut transaction = self.key_changes.begin().await?;
        let found = sqlx::query_scalar!(
            r#"select true as "there!" from tenants where org_id = $1 and uid = $2 for no key update"#,
            org_id.as_uuid(),
            tenant.as_str(),
        );
        if found.fetch_optional(&mut *transaction).await?.is_none() {
            return Ok(false);
        }
        drop_old(&mut transaction).await?;
        let mark = TenantMark::new(org_id, tenant);
        match id {
            Some(id) if has_room(&mut transaction, org_id, mark).await? => {
                sqlx::query!(
                    "insert into ended_sessions (org_id, tenant_mark, session_id, keep_until)
                     values ($1, $2, $3, now() + $4 * interval '1 second')
                     on conflict do nothing",
                    org_id.as_uuid(),
                    mark.as_uuid(),
                    id.as_uuid(),
                    LONGEST_SECONDS,
                )
                .execute(&mut *transaction)
                .await?;
            }
            _ => end_all(&mut transaction, org_id, tenant).await?,
        }
        transaction.commit().await?;
        Ok(true)
    }
}

/// Ends all sessions of a tenant's portal.
pub(super) async fn end_all(transaction: &mut Transaction, org_id: OrgId, tenant: &Tenant) -> Result<()> {
    let mark = TenantMark::new(org_id, tenant);
    sqlx::query!(
        "delete from ended_sessions where org_id = $1 and tenant_mark = $2 and session_id is not null",
        org_id.as_uuid(),
        mark.as_uuid(),
    )
    .execute(&mut **transaction)
    .await?;
    sqlx::query!(
        "insert into ended_sessions (org_id, tenant_mark, keep_until)
         values ($1, $2, now() + $3 * interval '1 second')
         on conflict (org_id, tenant_mark, session_id) do update
         set ended_at = excluded.ended_at, keep_until = excluded.keep_until",
        org_id.as_uuid(),
        mark.as_uuid(),
        LONGEST_SECONDS,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

/// Ends all sessions of the portals of an organisation's tenants.
pub(super) async fn end_all_of_organization(transaction: &mut Transaction, org_id: OrgId) -> Result<()> {
    sqlx::query!(
        "insert into ended_sessions (org_id, keep_until) values ($1, now() + $2 * interval '1 second')
         on conflict (org_id, tenant_mark, session_id) do update
         set ended_at = excluded.ended_at, keep_until = excluded.keep_until",
        org_id.as_uuid(),
        LONGEST_SECONDS,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}

async fn has_room(transaction: &mut Transaction, org_id: OrgId, mark: TenantMark) -> Result<bool> {
    let count = sqlx::query_scalar!(
        r#"select count(*) as "count!" from ended_sessions where org_id = $1 and tenant_mark = $2"#,
        org_id.as_uuid(),
        mark.as_uuid(),
    );
    Ok(count.fetch_one(&mut **transaction).await? < MAX_SINGLE)
}

/// Drops some of what no longer matters.
async fn drop_old(transaction: &mut Transaction) -> Result<()> {
    sqlx::query!(
        "delete from ended_sessions where ctid in (
             select ctid from ended_sessions where keep_until < now() limit 100 for update skip locked
         )"
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
