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

use super::EndpointRow;
use super::json::to_json;
use crate::store::{Result, Store};

impl Store {
    /// Replaces an endpoint's settings. False when the endpoint is not any more as it was before, or is deleted. With
    /// `close_circuit`, its failures are forgotten.
    pub(crate) async fn update_endpoint(
        &self,
        org_id: OrgId,
        before: &EndpointRow,
        changed: &EndpointRow,
        close_circuit: bool,
    ) -> Result<bool> {
        let row = to_json(changed, None)?;
        self.replace_settings(org_id, before, &row, close_circuit).await
    }

    /// Deletes an endpoint. Workers then end its recoveries and its deliveries: a worker that takes a step of a recovery has its
    /// row locked, and nobody is to wait for that with the locks of a change. With a version, only while the endpoint has this
    /// one. False when it has another, or is deleted already.
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
