//! Endpoints.

use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted};
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::{EndpointId, OrgId};
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use uuid::Uuid;

use super::owners::{MAX_TENANTS, look_at_owner};
use super::{Result, Store, Stored, lock_organization};
use crate::domain::endpoint::Settings;
use crate::domain::page::Page;
use crate::domain::realm::Realm;
use crate::domain::tenant::TenantStatus;

/// A stored endpoint.
#[derive(Debug)]
pub(crate) struct EndpointRow {
    pub id: EndpointId,
    pub kind: EndpointKind,
    pub tenant: Option<Tenant>,
    pub all_tenants: bool,
    pub url: Option<String>,
    pub description: String,
    pub event_types: Vec<EventTypePattern>,
    pub filter: Option<String>,
    /// Sealed.
    pub headers: Option<Vec<u8>>,
    pub format: Format,
    pub retry_attempts: Option<i32>,
    pub retry_initial_ms: Option<i64>,
    pub retry_factor: Option<f64>,
    pub retry_max_ms: Option<i64>,
    pub retry_max_age_ms: Option<i64>,
    pub timeout_ms: i32,
    pub max_in_flight: i32,
    pub rate_limit_per_second: Option<i32>,
    pub ordered: bool,
    pub on_exhausted: OnExhausted,
    pub status: EndpointStatus,
    pub disabled_reason: Option<String>,
    pub previous_secret_expires_at: Option<OffsetDateTime>,
    pub created_at: OffsetDateTime,
    pub updated_at: OffsetDateTime,
    /// Each change of the endpoint changes it.
    pub version: i64,
    pub consecutive_failures: Option<i32>,
    pub failing_since: Option<OffsetDateTime>,
    pub open_until: Option<OffsetDateTime>,
}

/// An endpoint about to be stored.
#[derive(Debug)]
pub(crate) struct EndpointToStore<'a> {
    /// Its id.
    pub id: EndpointId,
    /// The owner's settings.
    pub settings: &'a Settings,
    /// Its own request headers, sealed.
    pub headers: Option<Vec<u8>>,
    /// Why it is disabled, if it is and was not before.
    pub disabled_reason: &'static str,
}

/// What is fixed when an endpoint is made.
#[derive(Debug)]
pub(crate) struct Fixed<'a> {
    /// Whether its owner fetches its deliveries.
    pub kind: EndpointKind,
    /// The tenant that it belongs to.
    pub tenant: Option<&'a Tenant>,
    /// Whether it gets the events of all tenants.
    pub all_tenants: bool,
    /// Whether a tenant that is missing is made.
    pub create_tenant: bool,
}

fn millis(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

impl Store {
    /// Stores a new endpoint with its sealed signing secret, unless there are as many as there may be.
    pub(crate) async fn create_endpoint(
        &self,
        org_id: OrgId,
        fixed: &Fixed<'_>,
        new: &EndpointToStore<'_>,
        secret: &[u8],
    ) -> Result<Stored<()>> {
        let mut transaction = self.pool.begin().await?;
        if !lock_organization(&mut transaction, org_id).await? {
            return Ok(Stored::Missing);
        }
        let owner = look_at_owner(&mut transaction, org_id, fixed.tenant).await?;
        let mut is_new_tenant = false;
        if fixed.tenant.is_some() {
            match owner.tenant {
                Some(TenantStatus::Deleting) => return Ok(Stored::OwnerLeaves),
                Some(_) => {}
                None if !fixed.create_tenant => return Ok(Stored::Missing),
                None if owner.tenants >= MAX_TENANTS.count => return Ok(Stored::Full(MAX_TENANTS)),
                None => is_new_tenant = true,
            }
        }
        if let Some(most) = owner.reached(fixed.tenant) {
            return Ok(Stored::Full(most));
        }
        insert(&mut transaction, org_id, fixed, is_new_tenant, new, secret).await?;
        transaction.commit().await?;
        Ok(Stored::Done(()))
    }

    /// Replaces an endpoint's settings. False when the endpoint has another version than `version`, or is deleted. With
    /// `close_circuit`, its failures are forgotten.
    pub(crate) async fn update_endpoint(
        &self,
        org_id: OrgId,
        version: i64,
        changed: &EndpointToStore<'_>,
        close_circuit: bool,
    ) -> Result<bool> {
        let settings = changed.settings;
        sqlx::query_scalar!(
            r#"with changed as (
                   update endpoints
                   set url = $4, description = $5, event_types = $6, filter = $7, headers = $8, format = $9,
                       retry_attempts = $10, retry_initial_ms = $11, retry_factor = $12, retry_max_ms = $13,
                       retry_max_age_ms = $14, timeout_ms = $15, max_in_flight = $16, rate_limit_per_second = $17,
                       ordered = $18, on_exhausted = $19, status = $20,
                       disabled_reason = case when $20 = 'enabled' then null
                                              when status = 'disabled' then disabled_reason
                                              else $21 end
                   where id = $1 and org_id = $2 and version = $3 and deleted_at is null
                   returning id
               ),
               closed as (
                   delete from endpoint_health h using changed c
                   where $22 and h.endpoint_id = c.id and h.org_id = $2
               )
               select exists (select from changed) as "changed!""#,
            changed.id.as_uuid(),
            org_id.as_uuid(),
            version,
            settings.url,
            settings.description,
            &settings.event_types as _,
            settings.filter,
            changed.headers,
            settings.format as _,
            settings.retry.attempts,
            millis(settings.retry.initial),
            settings.retry.factor,
            millis(settings.retry.max),
            millis(settings.retry.max_age),
            settings.limits.timeout_ms,
            settings.limits.max_in_flight,
            settings.rate_limit_per_second,
            settings.ordered,
            settings.on_exhausted as _,
            settings.status as _,
            changed.disabled_reason,
            close_circuit,
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Deletes an endpoint and stops its recoveries; workers then end its deliveries. With a version, only while the
    /// endpoint has this one. False when it has another, or is deleted already.
    pub(crate) async fn delete_endpoint(
        &self,
        org_id: OrgId,
        id: EndpointId,
        version: Option<i64>,
    ) -> Result<bool> {
        sqlx::query_scalar!(
            r#"with organization as materialized (
                   -- Before the endpoint's row, as everybody locks them.
                   select id from organizations where id = $2 for no key update
               ),
               deleted as (
                   update endpoints e set deleted_at = now() from organization o
                   where e.id = $1 and e.org_id = o.id and e.deleted_at is null and ($3::bigint is null or e.version = $3)
                   returning e.id
               ),
               cancelled as (
                   update recoveries r set status = 'cancelled', finished_at = now()
                   from deleted where r.endpoint_id = deleted.id and r.org_id = $2 and r.status = 'running'
               )
               select exists (select from deleted) as "deleted!""#,
            id.as_uuid(),
            org_id.as_uuid(),
            version,
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Gives an endpoint of kind `push` a new secret. The old secret signs too for `overlap_seconds`; one from before
    /// it stops signing. False when there is no such endpoint.
    pub(crate) async fn rotate_secret(
        &self,
        org_id: OrgId,
        id: EndpointId,
        secret: &[u8],
        overlap_seconds: i32,
    ) -> Result<bool> {
        let done = sqlx::query!(
            "update endpoints
             set secret = $3,
                 previous_secret = case when $4::integer > 0 then secret end,
                 previous_secret_expires_at =
                     case when $4::integer > 0 then now() + $4::integer * interval '1 second' end
             where id = $1 and org_id = $2 and kind = 'push' and deleted_at is null",
            id.as_uuid(),
            org_id.as_uuid(),
            secret,
            overlap_seconds,
        );
        Ok(done.execute(&self.pool).await?.rows_affected() == 1)
    }

    /// One endpoint.
    pub(crate) async fn find_endpoint(&self, realm: &Realm, id: EndpointId) -> Result<Option<EndpointRow>> {
        let mut found = self.find_endpoints(realm, &[id.as_uuid()]).await?;
        Ok(found.pop())
    }

    /// A page of endpoints, newest first, with one more when there are more.
    pub(crate) async fn list_endpoints(&self, realm: &Realm, page: &Page<Uuid>) -> Result<Vec<EndpointRow>> {
        // Two branches, each with an index of its own.
        let ids = sqlx::query_scalar!(
            r#"(select id as "id!" from endpoints
                where $5::text is null and org_id = $1 and deleted_at is null
                  and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
                order by created_at desc, id desc limit $4)
               union all
               (select id from endpoints
                where org_id = $1 and tenant = $5 and deleted_at is null
                  and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
                order by created_at desc, id desc limit $4)"#,
            realm.org_id.as_uuid(),
            page.after.as_ref().map(|cursor| cursor.at),
            page.after.as_ref().map(|cursor| cursor.id),
            page.limit + 1,
            realm.tenant(),
        );
        let ids = ids.fetch_all(&self.pool).await?;
        self.find_endpoints(realm, &ids).await
    }

    /// The endpoints with these ids, newest first. Missing ones are left out.
    async fn find_endpoints(&self, realm: &Realm, ids: &[Uuid]) -> Result<Vec<EndpointRow>> {
        sqlx::query_as!(
            EndpointRow,
            r#"select e.id as "id: EndpointId", e.kind as "kind: EndpointKind", e.tenant as "tenant: Tenant",
                      e.all_tenants, e.url, e.description, e.event_types as "event_types: Vec<EventTypePattern>", e.filter, e.headers, e.format as "format: Format", e.retry_attempts, e.retry_initial_ms,
                      e.retry_factor, e.retry_max_ms, e.retry_max_age_ms, e.timeout_ms, e.max_in_flight,
                      e.rate_limit_per_second, e.ordered, e.on_exhausted as "on_exhausted: OnExhausted",
                      e.status as "status: EndpointStatus", e.disabled_reason,
                      case when e.previous_secret_expires_at > now()
                           then e.previous_secret_expires_at end as previous_secret_expires_at,
                      e.created_at, e.updated_at, e.version, h.consecutive_failures as "consecutive_failures?",
                      h.failing_since as "failing_since?", h.open_until
               from unnest($2::uuid[]) as wanted (id)
               join endpoints e on e.id = wanted.id and e.org_id = $1 and e.deleted_at is null
                               and ($3::text is null or e.tenant = $3)
               left join endpoint_health h on h.endpoint_id = e.id and h.org_id = e.org_id
               order by e.created_at desc, e.id desc"#,
            realm.org_id.as_uuid(),
            ids,
            realm.tenant(),
        )
        .fetch_all(&self.pool)
        .await
    }
}

async fn insert(
    transaction: &mut Transaction,
    org_id: OrgId,
    fixed: &Fixed<'_>,
    is_new_tenant: bool,
    new: &EndpointToStore<'_>,
    secret: &[u8],
) -> Result<()> {
    let settings = new.settings;
    sqlx::query!(
        "with made as (insert into tenants (org_id, uid) select $2, $23 where $25)
         insert into endpoints (id, org_id, kind, secret, url, description, event_types, filter, headers, format,
                                retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                                timeout_ms, max_in_flight, rate_limit_per_second, ordered, on_exhausted, status,
                                disabled_reason, tenant, all_tenants, tenant_enabled)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                 case when $21 = 'disabled' then $22 end, $23, $24,
                 $23::text is null or $25 or exists (
                     select from tenants where org_id = $2 and uid = $23 and status = 'enabled'
                 ))",
        new.id.as_uuid(),
        org_id.as_uuid(),
        fixed.kind as _,
        secret,
        settings.url,
        settings.description,
        &settings.event_types as _,
        settings.filter,
        new.headers,
        settings.format as _,
        settings.retry.attempts,
        millis(settings.retry.initial),
        settings.retry.factor,
        millis(settings.retry.max),
        millis(settings.retry.max_age),
        settings.limits.timeout_ms,
        settings.limits.max_in_flight,
        settings.rate_limit_per_second,
        settings.ordered,
        settings.on_exhausted as _,
        settings.status as _,
        new.disabled_reason,
        fixed.tenant.map(Tenant::as_str),
        fixed.all_tenants,
        is_new_tenant,
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
