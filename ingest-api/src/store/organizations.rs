//! Organisations.

use shared::domain::id::OrgId;
use shared::domain::tier::Tier;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};
use crate::domain::organization::{NewOrganization, Organization, OrganizationChange};
use crate::domain::page::Page;

struct OrganizationRow {
    id: OrgId,
    name: String,
    tier: Tier,
    rate_limit_per_minute: Option<i64>,
    payload_retention_days: Option<i32>,
    created_at: OffsetDateTime,
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
            created_at: row.created_at,
        }
    }
}

impl Store {
    /// Stores a new organisation.
    pub(crate) async fn create_organization(&self, new: &NewOrganization) -> Result<Organization> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"insert into organizations (id, name, tier, rate_limit_per_minute, payload_retention_days)
               values ($1, $2, $3, $4, $5)
               returning id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                         created_at"#,
            OrgId::generate().as_uuid(),
            new.name,
            new.tier as _,
            new.rate_limit_per_minute.map(|limit| i64::from(limit.get())),
            new.payload_retention_days
                .and_then(|days| i32::try_from(days).ok()),
        );
        Ok(row.fetch_one(&self.pool).await?.into())
    }

    /// One organisation.
    pub(crate) async fn get_organization(&self, org_id: OrgId) -> Result<Option<Organization>> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"select id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                      created_at
               from organizations where id = $1"#,
            org_id.as_uuid(),
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(Into::into))
    }

    /// A page of organisations, newest first, with one more when there are more.
    pub(crate) async fn list_organizations(&self, page: &Page<Uuid>) -> Result<Vec<Organization>> {
        let rows = sqlx::query_as!(
            OrganizationRow,
            r#"select id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                      created_at
               from organizations
               where $1::timestamptz is null or (created_at, id) < ($1, $2::uuid)
               order by created_at desc, id desc
               limit $3"#,
            page.after.as_ref().map(|cursor| cursor.at),
            page.after.as_ref().map(|cursor| cursor.id),
            page.limit + 1,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Changes the fields that the change names. None when the organisation does not exist.
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
                   payload_retention_days = case when $6 then $7 else payload_retention_days end
               where id = $1
               returning id as "id: OrgId", name, tier as "tier: Tier", rate_limit_per_minute, payload_retention_days,
                         created_at"#,
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
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(Into::into))
    }
}
