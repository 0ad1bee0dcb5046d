//! Claiming deliveries without an ordering key: those that are due longest first.

use shared::domain::id::{EndpointId, EventId, LeaseToken, OrgId};
use sqlx::PgConnection;

use super::{Claimed, Share};
use crate::endpoints::permits::Permits;

/// Leases as many due deliveries of each endpoint as its share can get permits.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn claim(
    connection: &mut PgConnection,
    shares: &mut [Share],
    permits: &Permits,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let due = shares.iter_mut().filter(|share| share.waiting.has_due());
    let due = due.map(|share| {
        share.take_permits(permits, share.turns);
        &*share
    });
    let shares: Vec<_> = due.filter(|share| !share.permits.is_empty()).collect();
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    sqlx::query_as!(
        Claimed,
        r#"
        update deliveries d
        set lease_token = gen_random_uuid(), next_attempt_at = now() + due.lease_ms * interval '1 millisecond'
        from (
            select c.org_id, c.event_id, c.endpoint_id, c.accepted_at, share.lease_ms
            from unnest($1::uuid[], $2::integer[], $3::bigint[]) as share (endpoint_id, take, lease_ms)
            cross join lateral (
                select org_id, event_id, endpoint_id, accepted_at from deliveries
                where endpoint_id = share.endpoint_id and status = 'pending' and not pull and ordering_key is null
                  and next_attempt_at <= now()
                order by next_attempt_at limit share.take
                for update skip locked
            ) c
        ) due
        join events e on e.org_id = due.org_id and e.accepted_at = due.accepted_at and e.id = due.event_id
        where d.event_id = due.event_id and d.endpoint_id = due.endpoint_id and d.accepted_at = due.accepted_at
          and d.org_id = due.org_id
        returning d.event_id as "event_id: EventId", d.endpoint_id as "endpoint_id: EndpointId",
                  d.org_id as "org_id: OrgId", d.accepted_at, d.attempts - d.attempts_before as "attempts!",
                  extract(epoch from now() - coalesce(d.revived_at, d.created_at))::float8 as "age_seconds!",
                  d.ordering_key is not null as "ordered!", d.lease_token as "lease_token!: LeaseToken",
                  e.type as event_type, e.content_type, e.traceparent, e.cloudevent, e.ordering_key, e.tenant, e.data
        "#,
        &shares.iter().map(|share| share.endpoint.id.as_uuid()).collect::<Vec<_>>(),
        &shares.iter().map(|share| share.take()).collect::<Vec<_>>(),
        &shares.iter().map(|share| share.lease_ms()).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}
