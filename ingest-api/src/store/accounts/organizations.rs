//! Organisations.

use shared::domain::id::OrgId;
use shared::domain::tier::Tier;
use time::OffsetDateTime;
use uuid::Uuid;

use super::ended_sessions::end_all_of_organization;
use crate::domain::access::key::KeyId;
use crate::domain::accounts::organization::{NewOrganization, Organization, OrganizationChange};
use crate::domain::accounts::quota::QuotaAction;
use crate::domain::page::Page;
use crate::store::{MAX_COUNTED, Result, Store};

struct OrganizationRow {
    id: OrgId,
    name: String,
    tier: Tier,
    rate_limit_per_minute: Option<i64>,
    payload_retention_days: Option<i32>,
    events_per_month: Option<i64>,
    quota_action: QuotaAction,
    created_at: OffsetDateTime,
    deleting_since: Option<OffsetDateTime>,
    events_left: Option<i64>,
}

impl From<OrganizationRow> for Organization {
    fn from(row: OrganizationRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            tier: row.tier,
            // The API takes 32 bits, and the check constraint no other number.
            rate_limit_per_minute: row.rate_limit_per_minute.and_then(|limit| limit.try_into().ok()),
            payload_retention_days: row.payload_retention_days.and_then(|days| days.try_into().ok()),
            events_per_month: row.events_per_month.and_then(|events| events.try_into().ok()),
            quota_action: row.quota_action,
            created_at: row.created_at,
            deleting_since: row.deleting_since,
            events_left: row.events_left,
        }
    }
}

impl Store {
    /// Stores a new organisation.
    pub(crate) async fn create_organization(&self, new: &NewOrganization) -> Result<Organization> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"insert into organizations (id, name, tier, rate_limit_per_minute, payload_retention_days, events_per_month,
                                          quota_action)
               values ($1, $2, $3, $4, $5, $6, $7)
               returning id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                         events_per_month, quota_action as "quota_action: QuotaAction", created_at, deleting_since,
                         null::bigint as events_left"#,
            OrgId::generate().as_uuid(),
            new.name,
            new.tier as _,
            new.rate_limit_per_minute.map(|limit| i64::from(limit.get())),
            new.payload_retention_days
                .and_then(|days| i32::try_from(days).ok()),
            new.events_per_month.and_then(|events| i64::try_from(events).ok()),
            new.quota_action as _,
        );
        let mut transaction = self.begin_change(&self.pool).await?;
        let row = row.fetch_one(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(row.into())
    }

    /// One organisation.
    pub(crate) async fn get_organization(&self, org_id: OrgId) -> Result<Option<Organization>> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"select id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                      events_per_month, quota_action as "quota_action: QuotaAction", created_at, deleting_since,
                      case when deleting_since is not null then (
                          select count(*) from (select from events e where e.org_id = o.id limit $2) counted
                      ) end as events_left
               from organizations o where id = $1"#,
            org_id.as_uuid(),
            MAX_COUNTED,
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(Into::into))
    }

    /// A page of organisations, newest first, with one more when there are more.
    pub(crate) async fn list_organizations(&self, page: &Page<Uuid>) -> Result<Vec<Organization>> {
        let rows = sqlx::query_as!(
            OrganizationRow,
            r#"select id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                      events_per_month, quota_action as "quota_action: QuotaAction", created_at, deleting_since,
                      null::bigint as events_left
               from organizations
               where (created_at, id) < ($1::timestamptz, $2::uuid)
               order by created_at desc, id desc
               limit $3"#,
            page.before().at,
            page.before().id,
            page.limit + 1,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Changes the fields that the change names. None when the organisation does not exist or is being deleted.
    pub(crate) async fn change_organization(
        &self,
        org_id: OrgId,
        change: &OrganizationChange,
    ) -> Result<Option<Organization>> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"update organizations
               set name = coalesce($2, name),
                   tier = coalesce($3, tier),
                   rate_limit_per_minute = case when $4 then $5 else rate_limit_per_minute end,
                   payload_retention_days = case when $6 then $7 else payload_retention_days end,
                   events_per_month = case when $8 then $9 else events_per_month end,
                   quota_action = case when $10 then coalesce($11, 'warn') else quota_action end
               where id = $1 and deleting_since is null
               returning id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                         events_per_month, quota_action as "quota_action: QuotaAction", created_at, deleting_since,
                         null::bigint as events_left"#,
            org_id.as_uuid(),
            change.name,
            change.tier as _,
            change.rate_limit_per_minute.is_present(),
            change
                .rate_limit_per_minute
                .value()
                .map(|limit| i64::from(limit.get())),
            change.payload_retention_days.is_present(),
            change
                .payload_retention_days
                .value()
                .and_then(|days| i32::try_from(*days).ok()),
            change.events_per_month.is_present(),
            change
                .events_per_month
                .value()
                .and_then(|events| i64::try_from(*events).ok()),
            change.quota_action.is_present(),
            change.quota_action.value().copied() as _,
        );
        let mut transaction = self.begin_change(&self.pool).await?;
        let row = row.fetch_optional(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(row.map(Into::into))
    }

    /// Begins to delete an organisation: its keys are revoked. Workers remove the rest. Returns the keys that were valid;
    /// None when there is no such organisation.
    pub(crate) async fn delete_organization(&self, org_id: OrgId) -> Result<Option<Vec<KeyId>>> {
        let mut transaction = self.begin_change(&self.key_changes).await?;
        let deleting = sqlx::query_scalar!(
            r#"update organizations set deleting_since = coalesce(deleting_since, now()) where id = $1
               returning true as "there!""#,
            org_id.as_uuid(),
        );
        if deleting.fetch_optional(&mut *transaction).await?.is_none() {
            return Ok(None);
        }
        let keys = sqlx::query_scalar!(
            r#"update api_keys set revoked_at = now() where org_id = $1 and revoked_at is null
               returning id as "id: KeyId""#,
            org_id.as_uuid(),
        );
        let keys = keys.fetch_all(&mut *transaction).await?;
        end_all_of_organization(&mut transaction, org_id).await?;
        transaction.commit().await?;
        Ok(Some(keys))
    }
}
