//! Changes of endpoints.
//!
//! Each is one statement, and a transaction of its own; endpoints are [made](super::creations) by another one, in groups. All of
//! them lock the row that counts changes, and those that make or delete endpoints lock their organisation's first, until the
//! commit is on disk; so changes are committed one after another. Nothing else may lengthen the time of the lock: no way over the
//! network lies in it, and a replica that stands still holds no lock.
//!
//! The commit waits for the disk, although the locks would be free sooner otherwise (`synchronous_commit = off`): a worker could
//! read a change that a crash of Postgres then undoes, and take the next one, which gets the same number, for the one that it
//! knows.
//!
//! A statement goes on when nobody waits for it any more. One whose key is revoked meanwhile changes nothing: Postgres looks
//! when it counts the change.

use shared::domain::id::{EndpointId, OrgId};

use super::endpoints::EndpointRow;
use super::{Result, Store};

impl Store {
    /// Replaces an endpoint's settings. False when the endpoint has another version than this row, or is deleted. With
    /// `close_circuit`, its failures are forgotten.
    pub(crate) async fn update_endpoint(
        &self,
        org_id: OrgId,
        changed: &EndpointRow,
        close_circuit: bool,
    ) -> Result<bool> {
        let (actor, address) = self.actor();
        sqlx::query_scalar!(
            r#"with changed as (
                   update endpoints
                   set url = $4, description = $5, event_types = $6, filter = $7, headers = $8, format = $9,
                       retry_attempts = $10, retry_initial_ms = $11, retry_factor = $12, retry_max_ms = $13,
                       retry_max_age_ms = $14, timeout_ms = $15, max_in_flight = $16, rate_limit_per_second = $17,
                       ordered = $18, on_exhausted = $19, status = $20, max_leased = $23, method = $24,
                       signatures = $25, auth = $26, certificate_expires_at = $27, template = $28,
                       template_content_type = $29,
                       disabled_reason = case when $20 = 'enabled' then null
                                              when status = 'disabled' then disabled_reason
                                              else $21 end
                   where id = $1 and org_id = $2 and version = $3 and deleted_at is null and act_as($30, $31)
                   returning id
               ),
               closed as (
                   delete from endpoint_health h using changed c
                   where $22 and h.endpoint_id = c.id and h.org_id = $2
               )
               select exists (select from changed) as "changed!""#,
            changed.id.as_uuid(),
            org_id.as_uuid(),
            changed.version,
            changed.url,
            changed.description,
            &changed.event_types as _,
            changed.filter,
            changed.headers,
            changed.format.to_string(),
            changed.retry_attempts,
            changed.retry_initial_ms,
            changed.retry_factor,
            changed.retry_max_ms,
            changed.retry_max_age_ms,
            changed.timeout_ms,
            changed.max_in_flight,
            changed.rate_limit_per_second,
            changed.ordered,
            changed.on_exhausted as _,
            changed.status as _,
            changed.disabled_reason,
            close_circuit,
            changed.max_leased,
            changed.method as _,
            changed.signatures,
            changed.auth,
            changed.certificate_expires_at,
            changed.template,
            changed.template_content_type,
            actor,
            address,
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
        let (actor, address) = self.actor();
        sqlx::query_scalar!(
            r#"with organization as materialized (
                   -- Before the endpoint's row, as everybody locks them.
                   select id from organizations where id = $2 for no key update
               ),
               deleted as (
                   update endpoints e set deleted_at = now() from organization o
                   where e.id = $1 and e.org_id = o.id and e.deleted_at is null and ($3::bigint is null or e.version = $3)
                     and act_as($4, $5)
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
            actor,
            address,
        )
        .fetch_one(&self.pool)
        .await
    }

    /// Gives an endpoint whose deliveries are sent a new secret. The old secret signs too for `overlap_seconds`; one from
    /// before it stops signing. False when there is no such endpoint.
    pub(crate) async fn rotate_secret(
        &self,
        org_id: OrgId,
        id: EndpointId,
        secret: &[u8],
        overlap_seconds: i32,
    ) -> Result<bool> {
        let (actor, address) = self.actor();
        let done = sqlx::query!(
            "update endpoints
             set secret = $3,
                 previous_secret = case when $4::integer > 0 then secret end,
                 previous_secret_expires_at =
                     case when $4::integer > 0 then now() + $4::integer * interval '1 second' end
             where id = $1 and org_id = $2 and deleted_at is null and act_as($5, $6)",
            id.as_uuid(),
            org_id.as_uuid(),
            secret,
            overlap_seconds,
            actor,
            address,
        );
        Ok(done.execute(&self.pool).await?.rows_affected() == 1)
    }
}
