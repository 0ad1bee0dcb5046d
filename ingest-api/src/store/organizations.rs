//! Organisations.

use shared::id::OrgId;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store};
use crate::routes::organizations::{Organization, OrganizationChange, Tier};
use crate::routes::page::Page;

struct OrganizationRow {
    id: OrgId,
    name: String,
    tier: String,
    rate_limit_per_minute: Option<i64>,
    created_at: OffsetDateTime,
}

impl From<OrganizationRow> for Organization {
    fn from(row: OrganizationRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            tier: Tier::from_name(&row.tier),
            // The API takes 32 bits, and the check constraint no other number.
            rate_limit_per_minute: row.rate_limit_per_minute.and_then(|limit| limit.try_into().ok()),
            created_at: row.created_at,
        }
    }
}

impl Store {
    /// Stores a new organisation.
    pub async fn create_organization(
        &self,
        name: &str,
        tier: Tier,
        rate_limit_per_minute: Option<u32>,
    ) -> Result<Organization> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"insert into organizations (id, name, tier, rate_limit_per_minute) values ($1, $2, $3, $4)
               returning id as "id: OrgId", name, tier, rate_limit_per_minute, created_at"#,
            OrgId::generate().as_uuid(),
            name,
            tier.name(),
            rate_limit_per_minute.map(i64::from),
        );
        Ok(row.fetch_one(&self.pool).await?.into())
    }

    /// One organisation.
    pub async fn get_organization(&self, org_id: OrgId) -> Result<Option<Organization>> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"select id as "id: OrgId", name, tier, rate_limit_per_minute, created_at
               from organizations where id = $1"#,
            org_id.as_uuid(),
        );
        Ok(row.fetch_optional(&self.pool).await?.map(Organization::from))
    }

    /// A page of organisations, newest first, with one more when there are more.
    pub async fn list_organizations(&self, page: &Page<Uuid>) -> Result<Vec<Organization>> {
        let rows = sqlx::query_as!(
            OrganizationRow,
            r#"select id as "id: OrgId", name, tier, rate_limit_per_minute, created_at
               from organizations
               where $1::timestamptz is null or (created_at, id) < ($1, $2::uuid)
               order by created_at desc, id desc
               limit $3"#,
            page.after.as_ref().map(|cursor| cursor.at),
            page.after.as_ref().map(|cursor| cursor.id),
            page.limit + 1,
        );
        let rows = rows.fetch_all(&self.pool).await?;
        Ok(rows.into_iter().map(Organization::from).collect())
    }

    /// Changes what the change names. Nothing when the organisation does not exist.
    pub async fn change_organization(
        &self,
        org_id: OrgId,
        change: &OrganizationChange,
    ) -> Result<Option<Organization>> {
        let row = sqlx::query_as!(
            OrganizationRow,
            r#"update organizations
               set name = coalesce($2, name),
                   tier = coalesce($3, tier),
                   rate_limit_per_minute = case when $4 then $5 else rate_limit_per_minute end
               where id = $1
               returning id as "id: OrgId", name, tier, rate_limit_per_minute, created_at"#,
            org_id.as_uuid(),
            change.name,
            change.tier.map(Tier::name),
            change.rate_limit_per_minute.is_some(),
            change
                .rate_limit_per_minute
                .flatten()
                .map(|limit| i64::from(limit.get())),
        );
        Ok(row.fetch_optional(&self.pool).await?.map(Organization::from))
    }
}
