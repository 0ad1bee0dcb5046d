//! After an endpoint is deleted: ends its pending deliveries in bounded steps and its recoveries, and removes what was kept about
//! it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::domain::id::{EndpointId, OrgId};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::store::partitions;

/// Pause between two looks for deleted endpoints.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Deliveries of each kind that one statement ends.
const STEP: i64 = 1_000;

/// Which of the deleted endpoints are looked at.
#[derive(Clone, Copy, Debug)]
enum Which {
    /// Those that were deleted lately. What was in flight then may have become pending since.
    Recent,
    /// All: no worker may have run when they were deleted.
    All,
}

/// How long an endpoint is among those that were deleted lately, and how often all of them are looked at, which takes a walk
/// over all endpoints with pending deliveries.
const RECENT: Duration = Duration::from_mins(15);
const ALL_INTERVAL: Duration = Duration::from_mins(10);

/// Ends what deleted endpoints have left.
#[derive(Debug, Default)]
pub(crate) struct Ending {
    /// When all of them were looked at.
    all_at: Mutex<Option<Instant>>,
}

impl Ending {
    /// Ends the pending deliveries of deleted endpoints. Deliveries in flight are left to their own results. Says whether there
    /// were any.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub(crate) async fn take_round(&self, pool: &PgPool) -> Result<bool, sqlx::Error> {
        let now = Instant::now();
        let all_at = *self.all_at();
        let which = match all_at {
            Some(all_at) if now.saturating_duration_since(all_at) < ALL_INTERVAL => Which::Recent,
            _ => Which::All,
        };
        let found = end_deliveries(pool, which).await?;
        if matches!(which, Which::All) {
            *self.all_at() = Some(now);
        }
        Ok(found)
    }

    fn all_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.all_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn end_deliveries(pool: &PgPool, which: Which) -> Result<bool, sqlx::Error> {
    let endpoints = match which {
        Which::Recent => recent_with_pending(pool).await?,
        Which::All => with_pending(pool).await?,
    };
    let found = !endpoints.is_empty();
    for (id, org_id) in endpoints {
        loop {
            let ended = end_some(pool, id, org_id).await?;
            if ended == 0 {
                break;
            }
            tracing::info!(endpoint_id = %id, deliveries = ended, "ended deliveries of a deleted endpoint");
        }
    }
    let since = match which {
        Which::Recent => partitions::now(pool).await? - RECENT,
        Which::All => OffsetDateTime::UNIX_EPOCH,
    };
    forget(pool, since).await?;
    Ok(found)
}

async fn recent_with_pending(pool: &PgPool) -> Result<Vec<(EndpointId, OrgId)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        select id as "id: EndpointId", org_id as "org_id: OrgId"
        from endpoints e
        where deleted_at > now() - $1 * interval '1 second'
          and (exists (select from deliveries where endpoint_id = e.id and status = 'pending' and not pull
                         and ordering_key is null)
            or exists (select from deliveries where endpoint_id = e.id and status = 'pending' and pull)
            or exists (select from deliveries where endpoint_id = e.id and status = 'pending'
                         and ordering_key is not null))
        "#,
        RECENT.as_secs_f64(),
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.org_id)).collect())
}

/// Deleted endpoints with pending deliveries: a walk from endpoint to endpoint over the three indexes of pending ones at
/// once. `least` passes over null; when all three are at their end, it is null and nothing follows.
async fn with_pending(pool: &PgPool) -> Result<Vec<(EndpointId, OrgId)>, sqlx::Error> {
    let rows = sqlx::query!(
        r#"
        with recursive waiting (endpoint_id) as (
            select '00000000-0000-0000-0000-000000000000'::uuid
            union all
            select least(
                (select endpoint_id from deliveries
                 where status = 'pending' and not pull and ordering_key is null and endpoint_id > w.endpoint_id
                 order by endpoint_id, next_attempt_at limit 1),
                (select endpoint_id from deliveries
                 where status = 'pending' and pull and endpoint_id > w.endpoint_id
                 order by endpoint_id, next_attempt_at limit 1),
                (select endpoint_id from deliveries
                 where status = 'pending' and ordering_key is not null and endpoint_id > w.endpoint_id
                 order by endpoint_id, ordering_key, ordinal limit 1)
            )
            from waiting w where w.endpoint_id is not null
        )
        select e.id as "id: EndpointId", e.org_id as "org_id: OrgId"
        from waiting w join endpoints e on e.id = w.endpoint_id
        where e.deleted_at is not null
        "#
    )
    .fetch_all(pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.id, row.org_id)).collect())
}

async fn end_some(pool: &PgPool, id: EndpointId, org_id: OrgId) -> Result<u64, sqlx::Error> {
    let done = sqlx::query!(
        "update deliveries d
         set status = 'dead', next_attempt_at = null, lease_token = null, finished_at = now(),
             last_outcome = case when exists (
                 select from endpoints e join tenants t on t.org_id = e.org_id and t.uid = e.tenant
                 where e.id = $1 and t.deleting_since is not null
             ) then 'tenant_deleted' else 'endpoint_deleted' end
         from (
             select * from (
                 select event_id, accepted_at from deliveries
                 where endpoint_id = $1 and org_id = $2 and status = 'pending' and not pull and ordering_key is null
                   and (lease_token is null or next_attempt_at <= now())
                 limit $3 for update skip locked
             ) unordered
             union all
             select * from (
                 select event_id, accepted_at from deliveries
                 where endpoint_id = $1 and org_id = $2 and status = 'pending' and pull
                   and (lease_token is null or next_attempt_at <= now())
                 limit $3 for update skip locked
             ) to_pull
             union all
             select * from (
                 select event_id, accepted_at from deliveries
                 where endpoint_id = $1 and org_id = $2 and status = 'pending' and ordering_key is not null
                   and (lease_token is null or next_attempt_at <= now())
                 limit $3 for update skip locked
             ) ordered
         ) ended
         where d.event_id = ended.event_id and d.endpoint_id = $1 and d.accepted_at = ended.accepted_at
           and d.org_id = $2",
        id.as_uuid(),
        org_id.as_uuid(),
        STEP,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected())
}

/// Of endpoints deleted after `since`.
async fn forget(pool: &PgPool, since: OffsetDateTime) -> Result<(), sqlx::Error> {
    // Its row went with it; a delivery that was in flight then may have written another one.
    sqlx::query!(
        "delete from endpoint_health h using endpoints e where e.id = h.endpoint_id and e.deleted_at > $1",
        since,
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "delete from endpoint_pace p using endpoints e where e.id = p.endpoint_id and e.deleted_at > $1",
        since,
    )
    .execute(pool)
    .await?;
    sqlx::query!(
        "update recoveries r set status = 'cancelled', finished_at = now() from endpoints e
         where r.status = 'running' and e.id = r.endpoint_id and e.deleted_at > $1",
        since,
    )
    .execute(pool)
    .await?;
    Ok(())
}
