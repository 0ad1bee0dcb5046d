//! Endpoints.

use std::time::Duration;

use shared::db::limited::Transaction;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted};
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::{EndpointId, OrgId};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Result, Store, Stored, lock_organization};
use crate::domain::endpoint::Settings;
use crate::domain::page::Page;

/// Most endpoints of an organisation that are not deleted: workers hold them all in memory, and an event may go to each.
pub(crate) const MAX_ENDPOINTS: i64 = 1_000;

/// A stored endpoint.
#[derive(Debug)]
pub(crate) struct EndpointRow {
    pub id: EndpointId,
    pub kind: EndpointKind,
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

fn millis(duration: Option<Duration>) -> Option<i64> {
    duration.map(|duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

impl Store {
    /// Stores a new endpoint with its sealed signing secret, unless the organisation has [`MAX_ENDPOINTS`].
    pub(crate) async fn create_endpoint(
        &self,
        org_id: OrgId,
        kind: EndpointKind,
        new: &EndpointToStore<'_>,
        secret: &[u8],
    ) -> Result<Stored<()>> {
        let mut transaction = self.pool.begin().await?;
        if !lock_organization(&mut transaction, org_id).await? {
            return Ok(Stored::Missing);
        }
        if is_full(&mut transaction, org_id).await? {
            return Ok(Stored::Full);
        }
        insert(&mut transaction, org_id, kind, new, secret).await?;
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
            r#"with deleted as (
                   update endpoints set deleted_at = now()
                   where id = $1 and org_id = $2 and deleted_at is null and ($3::bigint is null or version = $3)
                   returning id
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
    pub(crate) async fn find_endpoint(&self, org_id: OrgId, id: EndpointId) -> Result<Option<EndpointRow>> {
        let mut found = self.find_endpoints(org_id, &[id.as_uuid()]).await?;
        Ok(found.pop())
    }

    /// A page of an organisation's endpoints, newest first, with one more when there are more.
    pub(crate) async fn list_endpoints(&self, org_id: OrgId, page: &Page<Uuid>) -> Result<Vec<EndpointRow>> {
        let ids = sqlx::query_scalar!(
            "select id from endpoints
             where org_id = $1 and deleted_at is null
               and ($2::timestamptz is null or (created_at, id) < ($2, $3::uuid))
             order by created_at desc, id desc limit $4",
            org_id.as_uuid(),
            page.after.as_ref().map(|cursor| cursor.at),
            page.after.as_ref().map(|cursor| cursor.id),
            page.limit + 1,
        );
        let ids = ids.fetch_all(&self.pool).await?;
        self.find_endpoints(org_id, &ids).await
    }

    /// The endpoints with these ids, newest first. Missing ones are left out.
    async fn find_endpoints(&self, org_id: OrgId, ids: &[Uuid]) -> Result<Vec<EndpointRow>> {
        sqlx::query_as!(
            EndpointRow,
            r#"select e.id as "id: EndpointId", e.kind as "kind: EndpointKind", e.url, e.description,
                      e.event_types as "event_types: Vec<EventTypePattern>", e.filter, e.headers, e.format as "format: Format", e.retry_attempts, e.retry_initial_ms,
                      e.retry_factor, e.retry_max_ms, e.retry_max_age_ms, e.timeout_ms, e.max_in_flight,
                      e.rate_limit_per_second, e.ordered, e.on_exhausted as "on_exhausted: OnExhausted",
                      e.status as "status: EndpointStatus", e.disabled_reason,
                      case when e.previous_secret_expires_at > now()
                           then e.previous_secret_expires_at end as previous_secret_expires_at,
                      e.created_at, e.updated_at, e.version, h.consecutive_failures as "consecutive_failures?",
                      h.failing_since as "failing_since?", h.open_until
               from unnest($2::uuid[]) as wanted (id)
               join endpoints e on e.id = wanted.id and e.org_id = $1 and e.deleted_at is null
               left join endpoint_health h on h.endpoint_id = e.id and h.org_id = e.org_id
               order by e.created_at desc, e.id desc"#,
            org_id.as_uuid(),
            ids,
        )
        .fetch_all(&self.pool)
        .await
    }
}

/// Whether an organisation has [`MAX_ENDPOINTS`]. The caller holds its lock.
pub(super) async fn is_full(transaction: &mut Transaction, org_id: OrgId) -> Result<bool> {
    let endpoints = sqlx::query_scalar!(
        r#"select count(*) as "count!" from endpoints where org_id = $1 and deleted_at is null"#,
        org_id.as_uuid(),
    );
    Ok(endpoints.fetch_one(&mut **transaction).await? >= MAX_ENDPOINTS)
}

async fn insert(
    transaction: &mut Transaction,
    org_id: OrgId,
    kind: EndpointKind,
    new: &EndpointToStore<'_>,
    secret: &[u8],
) -> Result<()> {
    let settings = new.settings;
    sqlx::query!(
        "insert into endpoints (id, org_id, kind, secret, url, description, event_types, filter, headers, format,
                                retry_attempts, retry_initial_ms, retry_factor, retry_max_ms, retry_max_age_ms,
                                timeout_ms, max_in_flight, rate_limit_per_second, ordered, on_exhausted, status,
                                disabled_reason)
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21,
                 case when $21 = 'disabled' then $22 end)",
        new.id.as_uuid(),
        org_id.as_uuid(),
        kind as _,
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
    )
    .execute(&mut **transaction)
    .await?;
    Ok(())
}
