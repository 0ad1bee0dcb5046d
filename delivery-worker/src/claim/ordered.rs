//! Claiming deliveries with an ordering key: of each key the first one that is pending, and no other.
//!
//! The first one known is the first one there is only if everything that stands before it in its stream is stored.
//! One worker may have stored the second frame of a stream while another one, or none any more, still holds the
//! first. So a delivery also waits until its stream is stored through its own place: see [`crate::floors`].

use std::collections::HashMap;

use shared::id::{EndpointId, EventId, LeaseToken, OrgId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::{Claimed, Share};
use crate::floors::FloorRequests;
use crate::permits::Permits;

/// Keys of one endpoint that are looked at in one claim. The next claim goes on after the last of them, so that any
/// number of keys has its turn and no claim takes long.
const MAX_KEYS: u16 = 256;

/// After which key the walk over an endpoint's keys goes on; from the first one where there is no entry.
#[derive(Debug, Default)]
pub struct Cursors(HashMap<EndpointId, String>);

/// The first pending delivery of a key.
struct Head {
    endpoint_id: EndpointId,
    org_id: OrgId,
    event_id: EventId,
    accepted_at: OffsetDateTime,
    ordering_key: String,
    /// Neither leased nor waiting for its next attempt.
    due: bool,
    /// Nothing can come before it any more.
    stored: bool,
}

/// Leases the first deliveries of as many keys of each endpoint as its share can get permits. Asks for the floors of
/// the streams when one waits only for them.
///
/// # Errors
/// When Postgres does not answer.
pub async fn claim(
    connection: &mut PgConnection,
    shares: &mut [Share],
    cursors: &mut Cursors,
    permits: &Permits,
    floors: &FloorRequests,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let with_keys = shares
        .iter_mut()
        .filter(|share| share.waiting.ordered && share.turns > 0);
    let mut shares: HashMap<_, _> = with_keys.map(|share| (share.endpoint.id, share)).collect();
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    let heads = look(connection, &shares, cursors).await?;
    if heads.iter().any(|head| head.due && !head.stored) {
        floors.ask();
    }
    let mut ready = Vec::new();
    let mut walks = heads
        .chunk_by(|one, next| one.endpoint_id == next.endpoint_id)
        .map(|walk| (walk[0].endpoint_id, walk))
        .collect::<HashMap<_, _>>();
    for (id, share) in &mut shares {
        let walk = walks.remove(id).unwrap_or_default();
        let begin = ready.len();
        let is_ready = walk.iter().filter(|head| head.due && head.stored);
        share.take_permits(permits, is_ready.clone().count());
        let lease_ms = share.lease_ms();
        ready.extend(is_ready.take(share.permits.len()).map(|head| (head, lease_ms)));
        cursors.advance(share, walk, &ready[begin..]);
    }
    if ready.is_empty() {
        return Ok(Vec::new());
    }
    lease(connection, &ready).await
}

impl Cursors {
    /// After the walk over an endpoint's keys, of which the heads in `leased` are leased now.
    fn advance(&mut self, share: &Share, walk: &[Head], leased: &[(&Head, i64)]) {
        let ready = walk.iter().filter(|head| head.due && head.stored).count();
        let next = if ready > leased.len() {
            // The rest had no permit.
            leased.last().map(|(head, _)| *head)
        } else if walk.len() == usize::from(MAX_KEYS) || ready == share.turns {
            walk.last()
        } else {
            // The walk came to the end.
            self.0.remove(&share.endpoint.id);
            None
        };
        if let Some(head) = next {
            self.0.insert(share.endpoint.id, head.ordering_key.clone());
        }
    }
}

/// The first pending deliveries of each endpoint's next keys, by endpoint and key, until enough of them are ready.
async fn look(
    connection: &mut PgConnection,
    shares: &HashMap<EndpointId, &mut Share>,
    cursors: &Cursors,
) -> Result<Vec<Head>, sqlx::Error> {
    let after = |id: &EndpointId| cursors.0.get(id).cloned().unwrap_or_default();
    sqlx::query_as!(
        Head,
        r#"
        with recursive heads as (
            select endpoint_id, take, after as ordering_key, null::uuid as org_id, null::uuid as event_id,
                   null::timestamptz as accepted_at, false as due, false as stored, 0 as step, 0 as ready
            from unnest($1::uuid[], $2::integer[], $3::text[]) as share (endpoint_id, take, after)
            union all
            select h.endpoint_id, h.take, next.ordering_key, next.org_id, next.event_id, next.accepted_at, next.due,
                   next.stored, h.step + 1, h.ready + (next.due and next.stored)::integer
            from heads h cross join lateral (
                select ordering_key, org_id, event_id, accepted_at, next_attempt_at <= now() as due,
                       exists (
                           select from stream_floors f
                           where f.stream = d.stream
                             and (f.stored_through >= d.ordinal >> 10 or f.drained_at >= d.created_at)
                       ) as stored
                from deliveries d
                where endpoint_id = h.endpoint_id and status = 'pending' and ordering_key > h.ordering_key
                order by ordering_key, ordinal limit 1
            ) next
            where h.step < $4 and h.ready < h.take
        )
        select endpoint_id as "endpoint_id!: EndpointId", org_id as "org_id!: OrgId", event_id as "event_id!: EventId",
               accepted_at as "accepted_at!", ordering_key as "ordering_key!", due as "due!", stored as "stored!"
        from heads where step > 0 order by endpoint_id, step
        "#,
        &shares.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &shares.values().map(|share| share.turns()).collect::<Vec<_>>(),
        &shares.keys().map(after).collect::<Vec<_>>(),
        i32::from(MAX_KEYS),
    )
    .fetch_all(connection)
    .await
}

async fn lease(connection: &mut PgConnection, heads: &[(&Head, i64)]) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"
        update deliveries d
        set lease_token = gen_random_uuid(), next_attempt_at = now() + due.lease_ms * interval '1 millisecond'
        from (
            select c.org_id, c.event_id, c.endpoint_id, c.accepted_at, head.lease_ms
            from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[])
                as head (org_id, event_id, endpoint_id, accepted_at, lease_ms)
            cross join lateral (
                select org_id, event_id, endpoint_id, accepted_at from deliveries
                where event_id = head.event_id and endpoint_id = head.endpoint_id and accepted_at = head.accepted_at
                  and org_id = head.org_id and status = 'pending' and next_attempt_at <= now()
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
                  e.type as event_type, e.content_type, e.traceparent, e.cloudevent, e.ordering_key, e.data
        "#,
        &heads.iter().map(|(head, _)| head.org_id.as_uuid()).collect::<Vec<_>>(),
        &heads.iter().map(|(head, _)| head.event_id.as_uuid()).collect::<Vec<_>>(),
        &heads.iter().map(|(head, _)| head.endpoint_id.as_uuid()).collect::<Vec<_>>(),
        &heads.iter().map(|(head, _)| head.accepted_at).collect::<Vec<_>>(),
        &heads.iter().map(|(_, lease_ms)| *lease_ms).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}
