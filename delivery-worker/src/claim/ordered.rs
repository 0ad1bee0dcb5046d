//! Claiming deliveries with an ordering key: only the first pending one of each key.
//!
//! Deliveries that may be due are looked at in the order in which they came due. One that has to wait for another one of
//! its key is parked: no claim meets it again until the one before it ends and unparks it (see the migration
//! `park_ordered_deliveries`). So deliveries that wait cost no work.
//!
//! The first stored delivery of a key is the first one of all only if everything before it in its stream is stored. A worker
//! may have stored the second frame of a stream while another worker still holds the first, or died with it. So a
//! delivery also waits until every frame before its own is stored: see [`crate::claim::floors`].
//!
//! A delivery that is made again, by a retry, a replay or a recovery, is the first one of its key again, while a later one may
//! be in flight. It waits for the end of that attempt.

use std::collections::HashMap;

use shared::domain::id::{EndpointId, EventId, OrgId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::claimed::Head;
use super::{Claimed, Share, claimed};
use crate::claim::floors::FloorRequests;
use crate::endpoints::permits::Permits;

/// One claim looks at twice as many deliveries of an endpoint as it may be sent, and this many more. The rest is left to
/// the next claim, which comes at once.
const MORE: i32 = 16;

/// Longer than any attempt takes, in milliseconds. A lease lasts for an endpoint's timeout and the margin, and that timeout may
/// have been changed since.
const LONGEST_ATTEMPT_MS: i64 = 60_000;

/// For each endpoint, the due delivery after which the next look goes on. Without an entry it begins with the first.
#[derive(Debug, Default)]
pub(super) struct Cursors(HashMap<EndpointId, Place>);

/// Where a delivery stands among its endpoint's due ones.
#[derive(Clone, Copy, Debug)]
struct Place {
    due_at: OffsetDateTime,
    ordinal: i64,
}

/// A delivery that is due, as far as its own row says.
struct Due {
    endpoint_id: EndpointId,
    org_id: OrgId,
    event_id: EventId,
    accepted_at: OffsetDateTime,
    next_attempt_at: OffsetDateTime,
    ordinal: i64,
    /// Another delivery of its key comes first.
    behind: bool,
    /// No delivery can come before it any more.
    stored: bool,
    /// It was made again, and a later one of its key is in flight, or may just be leased.
    beside: bool,
}

impl Due {
    fn is_ready(&self) -> bool {
        !self.behind && self.stored && !self.beside
    }

    /// What of it is leased, and for how long.
    fn head(&self, lease_ms: i64) -> Head {
        Head {
            org_id: self.org_id,
            event_id: self.event_id,
            endpoint_id: self.endpoint_id,
            accepted_at: self.accepted_at,
            lease_ms,
        }
    }
}

/// Leases the first deliveries of as many keys of each endpoint as its share can get permits, and parks what stands behind
/// others. Asks for the floors of the streams when one waits only for them, and has the table searched again at once when
/// there was more to look at.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn claim(
    connection: &mut PgConnection,
    shares: &mut [Share],
    cursors: &mut Cursors,
    permits: &Permits,
    floors: &FloorRequests,
) -> Result<Vec<Claimed>, sqlx::Error> {
    let with_keys = shares
        .iter_mut()
        .filter(|share| share.waiting.has_ordered() && share.turns > 0);
    let mut shares: HashMap<_, _> = with_keys.map(|share| (share.endpoint.id, share)).collect();
    if shares.is_empty() {
        return Ok(Vec::new());
    }
    let due = look(connection, &shares, cursors).await?;
    if due.iter().any(|due| !due.behind && !due.stored) {
        floors.ask();
    }
    let mut ready = Vec::new();
    let mut pages = due
        .chunk_by(|one, next| one.endpoint_id == next.endpoint_id)
        .map(|page| (page[0].endpoint_id, page))
        .collect::<HashMap<_, _>>();
    for (id, share) in &mut shares {
        let page = pages.remove(id).unwrap_or_default();
        let is_full = page.len() >= usize::try_from(page_length(share)).unwrap_or(usize::MAX);
        let is_ready = page.iter().filter(|due| due.is_ready());
        let count = is_ready.clone().count();
        share.take_permits(permits, count);
        let leased = share.permits.len().min(count);
        let lease_ms = share.lease_ms();
        ready.extend(is_ready.take(leased).map(|due| due.head(lease_ms)));
        // Those that found no permit come first in the next claim.
        let goes_on = is_full && leased == count;
        cursors.advance(*id, page.last().filter(|_| goes_on));
        // Deliveries that wait only for their stream's floor can wait for the next claim too.
        if goes_on && page.iter().any(|due| due.behind || due.stored) {
            permits.wake_claimer();
        }
    }
    // What is leased must be sent, so nothing that may fail comes after it.
    park(connection, due.iter().filter(|due| due.behind).collect()).await?;
    if ready.is_empty() {
        return Ok(Vec::new());
    }
    claimed::lease_heads(connection, &ready).await
}

fn page_length(share: &Share) -> i32 {
    share.turns().saturating_mul(2).saturating_add(MORE)
}

/// Longer than any lease of the endpoint's deliveries lasts.
fn flight_ms(share: &Share) -> i64 {
    share.lease_ms().saturating_add(LONGEST_ATTEMPT_MS)
}

impl Cursors {
    /// Goes on after `last`, or begins again.
    fn advance(&mut self, id: EndpointId, last: Option<&Due>) {
        match last {
            Some(due) => {
                let (due_at, ordinal) = (due.next_attempt_at, due.ordinal);
                self.0.insert(id, Place { due_at, ordinal });
            }
            None => _ = self.0.remove(&id),
        }
    }

    fn after(&self, id: EndpointId) -> Place {
        let first = Place {
            due_at: OffsetDateTime::UNIX_EPOCH,
            ordinal: 0,
        };
        self.0.get(&id).copied().unwrap_or(first)
    }
}

/// The next deliveries of each endpoint that are due by their own rows, by endpoint and time.
async fn look(
    connection: &mut PgConnection,
    shares: &HashMap<EndpointId, &mut Share>,
    cursors: &Cursors,
) -> Result<Vec<Due>, sqlx::Error> {
    sqlx::query_as!(
        Due,
        r#"
        select d.endpoint_id as "endpoint_id!: EndpointId", d.org_id as "org_id!: OrgId", d.event_id as "event_id!: EventId",
               d.accepted_at as "accepted_at!", d.next_attempt_at as "next_attempt_at!", d.ordinal as "ordinal!",
               exists (
                   select from deliveries earlier
                   where earlier.endpoint_id = d.endpoint_id and earlier.ordering_key = d.ordering_key
                     and earlier.status = 'pending' and earlier.ordinal < d.ordinal
               ) as "behind!",
               exists (
                   select from stream_floors f
                   where f.stream = d.stream
                     and (f.stored_through >= d.ordinal >> 10 or f.drained_at >= d.created_at)
               ) as "stored!",
               -- What of its key is in flight was leased before it was made again, or by a claim that had begun by then: such
               -- a lease is seen within the second.
               coalesce(d.revived_at > now() - share.flight_ms * interval '1 millisecond', false) and (
                   d.revived_at > now() - interval '1 second'
                   or exists (
                       select from deliveries later
                       where later.endpoint_id = d.endpoint_id and later.ordering_key = d.ordering_key
                         and later.status = 'pending' and later.ordinal > d.ordinal
                         and later.lease_token is not null and later.next_attempt_at > now()
                   )
               ) as "beside!"
        from unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::bigint[], $5::bigint[])
            as share (endpoint_id, take, after_at, after_ordinal, flight_ms)
        cross join lateral (
            select * from deliveries
            where endpoint_id = share.endpoint_id and status = 'pending' and ordering_key is not null and not parked
              and next_attempt_at <= now() and (next_attempt_at, ordinal) > (share.after_at, share.after_ordinal)
            order by next_attempt_at, ordinal limit share.take
        ) d
        order by d.endpoint_id, d.next_attempt_at, d.ordinal
        "#,
        &shares.keys().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &shares.values().map(|share| page_length(share)).collect::<Vec<_>>(),
        &shares.keys().map(|id| cursors.after(*id).due_at).collect::<Vec<_>>(),
        &shares.keys().map(|id| cursors.after(*id).ordinal).collect::<Vec<_>>(),
        &shares.values().map(|share| flight_ms(share)).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}

/// Parks deliveries behind the nearest one of their key before them, whose row is locked meanwhile: it has not ended, and
/// whatever ends it later sees what is parked here. Rows that others have locked are left to the next claim.
async fn park(connection: &mut PgConnection, behind: Vec<&Due>) -> Result<(), sqlx::Error> {
    if behind.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        r#"
        with locked as materialized (
            select d.event_id, d.endpoint_id, d.accepted_at
            from unnest($1::uuid[], $2::uuid[], $3::timestamptz[]) as behind (event_id, endpoint_id, accepted_at)
            cross join lateral (
                select event_id, endpoint_id, accepted_at, ordering_key, ordinal from deliveries
                where event_id = behind.event_id and endpoint_id = behind.endpoint_id
                  and accepted_at = behind.accepted_at and status = 'pending' and not parked
                for no key update skip locked
            ) d
            cross join lateral (
                select event_id, endpoint_id, accepted_at from deliveries
                where endpoint_id = d.endpoint_id and ordering_key = d.ordering_key and status = 'pending'
                  and ordinal < d.ordinal
                order by ordinal desc limit 1
            ) nearest
            cross join lateral (
                select from deliveries
                where event_id = nearest.event_id and endpoint_id = nearest.endpoint_id
                  and accepted_at = nearest.accepted_at and status = 'pending'
                for share skip locked
            ) held
            -- All of them are locked before the first one is changed.
            order by d.event_id
        )
        update deliveries d set parked = true
        from locked l
        where d.event_id = l.event_id and d.endpoint_id = l.endpoint_id and d.accepted_at = l.accepted_at
        "#,
        &behind.iter().map(|due| due.event_id.as_uuid()).collect::<Vec<_>>(),
        &behind.iter().map(|due| due.endpoint_id.as_uuid()).collect::<Vec<_>>(),
        &behind.iter().map(|due| due.accepted_at).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
