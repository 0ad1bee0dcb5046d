//! Ends pulled deliveries that nobody acknowledges, if their endpoint sets a limit. Each lease that ran out counts as an
//! attempt. Workers do it, so that deliveries end although nobody pulls.

use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::event::{DELIVERY_DEAD, OPERATIONAL_TYPES};
use shared::domain::id::{EndpointId, EventId, OrgId};
use sqlx::PgPool;

/// Pause between two looks.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Deliveries of each kind that one statement ends.
const STEP: i64 = 500;

/// A pull endpoint whose deliveries come to an end.
struct Limited {
    id: EndpointId,
    org_id: OrgId,
    attempts: Option<i32>,
    max_age_ms: Option<i64>,
}

/// Ends the deliveries that nobody holds and that are out of attempts or too old. Those of endpoints that are disabled, or whose
/// tenant is, wait. Says whether there were any.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn end_deliveries(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let limited = sqlx::query_as!(
        Limited,
        r#"select id as "id: EndpointId", org_id as "org_id: OrgId", retry_attempts as attempts,
                  retry_max_age_ms as max_age_ms
           from endpoints
           where kind = 'pull' and deleted_at is null and (retry_attempts is not null or retry_max_age_ms is not null)
             and status = 'enabled' and tenant_enabled"#
    );
    let mut found = false;
    for endpoint in limited.fetch_all(pool).await? {
        loop {
            let ended = end_some(pool, &endpoint).await?;
            if ended == 0 {
                break;
            }
            found = true;
            let dead = DeliveryStatus::Dead.as_str();
            metrics::counter!("penstock_delivery_results_total", "status" => dead).increment(ended);
            tracing::warn!(endpoint_id = %endpoint.id, deliveries = ended, "deliveries are dead: nobody acknowledged them");
        }
    }
    Ok(found)
}

/// Leases that ran out stand in an index of their own. What was never leased has been due since it was stored, or made again, so the
/// oldest come first. What was given back stands among these: it is found when it has been due again for `max_age_ms`.
async fn end_some(pool: &PgPool, endpoint: &Limited) -> Result<u64, sqlx::Error> {
    let notices: Vec<_> = (0..2 * STEP)
        .map(|_| EventId::at(UnixMicros::now()).as_uuid())
        .collect();
    let operational: Vec<_> = OPERATIONAL_TYPES.map(str::to_owned).into();
    let ended = sqlx::query_scalar!(
        r#"
        with ended as materialized (
            select * from (
                select event_id, accepted_at from deliveries
                where endpoint_id = $1 and org_id = $2 and status = 'pending' and pull and lease_token is not null
                  and next_attempt_at <= now()
                  and (attempts - attempts_before + 1 >= $3::integer
                       or coalesce(revived_at, created_at) <= now() - $4::bigint * interval '1 millisecond')
                limit $5 for update skip locked
            ) leased
            union all
            select * from (
                select event_id, accepted_at from deliveries
                where endpoint_id = $1 and org_id = $2 and status = 'pending' and pull and lease_token is null
                  and next_attempt_at <= now() - $4::bigint * interval '1 millisecond'
                limit $5 for update skip locked
            ) waiting
        ),
        dead as (
            update deliveries d
            set status = 'dead', last_outcome = 'unacknowledged', next_attempt_at = null, finished_at = now(),
                lease_token = null, attempts = d.attempts + (d.lease_token is not null)::integer
            from ended
            where d.event_id = ended.event_id and d.endpoint_id = $1 and d.accepted_at = ended.accepted_at
              and d.org_id = $2
            returning d.event_id, d.accepted_at, d.attempts
        ),
        notices as (
            select row_number() over () as number, d.event_id, d.attempts, e.type
            from dead d
            join events e on e.org_id = $2 and e.accepted_at = d.accepted_at and e.id = d.event_id
            where e.type <> all($7) and is_operational_event_wanted($2, $8, $1)
        ),
        told as (
            insert into operational_events (id, org_id, type, endpoint_id, data)
            select ($6::uuid[])[number], $2, $8, $1,
                   json_build_object('endpoint_id', $1::uuid, 'event_id', event_id, 'event_type', type,
                                     'attempts', attempts, 'reason', 'unacknowledged')::text
            from notices
        )
        select count(*) as "ended!" from dead
        "#,
        endpoint.id.as_uuid(),
        endpoint.org_id.as_uuid(),
        endpoint.attempts,
        endpoint.max_age_ms as _,
        STEP,
        &notices,
        &operational,
        DELIVERY_DEAD,
    );
    let ended = ended.fetch_one(pool).await?;
    Ok(u64::try_from(ended).unwrap_or_default())
}
