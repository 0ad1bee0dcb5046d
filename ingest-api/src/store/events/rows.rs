//! The columns of an event: its rows, and each statement that reads all of it, to show it or to lease its delivery. A new field is
//! read by what stands here.

use std::ops::Range;

use shared::db::limited::Transaction;
use shared::domain::id::{EndpointId, EventId, LeaseToken};
use shared::domain::name::Tenant;
use sqlx::{Executor, Postgres};
use time::OffsetDateTime;

use super::EventFilter;
use crate::domain::access::realm::Realm;
use crate::domain::cursor::Cursor;
use crate::store::pull::Pull;
use crate::store::{MAX_PAGE_BYTES, Result, Store};

/// A stored event.
#[derive(Debug)]
pub(crate) struct EventRow {
    pub id: EventId,
    pub accepted_at: OffsetDateTime,
    pub event_type: String,
    pub content_type: String,
    pub idempotency_key: Option<String>,
    pub cloudevent: Option<String>,
    pub ordering_key: Option<String>,
    pub tenant: Option<String>,
    pub expunged_at: Option<OffsetDateTime>,
    pub data: Vec<u8>,
}

/// A leased delivery with its event.
#[derive(Debug)]
pub(crate) struct PulledRow {
    pub event_id: EventId,
    pub accepted_at: OffsetDateTime,
    pub event_type: String,
    pub content_type: String,
    pub data: Vec<u8>,
    pub idempotency_key: Option<String>,
    pub ordering_key: Option<String>,
    pub tenant: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub baggage: Option<String>,
    pub cloudevent: Option<String>,
    /// Attempts that have ended, and leases that have run out.
    pub attempts: i32,
    pub lease_expires_at: OffsetDateTime,
}

/// The events of a page, and whether there are more. The query looks at 10 000 events at most.
pub(super) async fn page(
    snapshot: &mut Transaction,
    filter: &EventFilter<'_>,
    times: &Range<OffsetDateTime>,
    after: Cursor,
) -> Result<(Vec<EventRow>, bool)> {
    let rows = sqlx::query!(
        r#"
        with page as materialized (
            select e.id, e.accepted_at, e.size,
                   row_number() over (order by e.accepted_at desc, e.id desc) as number
            from (
                -- Two branches, each with an index of its own.
                (select id, accepted_at, type, octet_length(data) as size from events
                 where $11::text is null and org_id = $1
                   and accepted_at >= $3 and accepted_at < $4
                   and accepted_at <= $5 and (accepted_at, id) < ($5, $6::uuid)
                 order by accepted_at desc, id desc limit 10000)
                union all
                (select id, accepted_at, type, octet_length(data) as size from events
                 where org_id = $1 and tenant = $11
                   and accepted_at >= $3 and accepted_at < $4
                   and accepted_at <= $5 and (accepted_at, id) < ($5, $6::uuid)
                 order by accepted_at desc, id desc limit 10000)
            ) e
            where ($2::text is null or e.type = $2)
              and (($7::text is null and $8::uuid is null) or exists (
                  select from deliveries d
                  where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = $1
                    and ($7 is null or d.status = $7) and ($8 is null or d.endpoint_id = $8)
                    and ($12::text is null or d.endpoint_id in (
                        select id from endpoints where org_id = $1 and coalesce(tenant, '') = $12
                    ))))
            order by e.accepted_at desc, e.id desc
            limit $9::bigint + 1
        ),
        sized as (select *, sum(size) over (order by number) as total from page)
        select e.id as "id: EventId", e.accepted_at, e.type as event_type, e.content_type, e.idempotency_key,
               e.cloudevent, e.ordering_key, e.tenant, e.expunged_at, e.data, (select count(*) from page) as "found!"
        from sized s join events e on e.org_id = $1 and e.accepted_at = s.accepted_at and e.id = s.id
        where s.number <= $9 and (s.total <= $10 or s.number = 1)
        order by s.number
        "#,
        filter.realm.org_id.as_uuid(),
        filter.event_type,
        times.start,
        times.end,
        after.at,
        after.id,
        filter.status as _,
        filter.endpoint_id.map(EndpointId::as_uuid),
        filter.limit,
        MAX_PAGE_BYTES as _,
        filter.realm.tenant(),
        filter.seen_of.as_ref().map(Tenant::as_str),
    )
    .fetch_all(&mut **snapshot)
    .await?;
    let found = rows.first().map_or(0, |row| row.found);
    let more = usize::try_from(found).is_ok_and(|found| found > rows.len());
    let events = rows
        .into_iter()
        .map(|row| EventRow {
            id: row.id,
            accepted_at: row.accepted_at,
            event_type: row.event_type,
            content_type: row.content_type,
            idempotency_key: row.idempotency_key,
            cloudevent: row.cloudevent,
            ordering_key: row.ordering_key,
            tenant: row.tenant,
            expunged_at: row.expunged_at,
            data: row.data,
        })
        .collect();
    Ok((events, more))
}

impl Store {
    /// The newest events that are stored under ids that were derived from an idempotency key.
    pub(crate) async fn list_events_of_key(
        &self,
        realm: &Realm,
        ids: &[EventId],
        limit: i64,
    ) -> Result<Vec<EventRow>> {
        sqlx::query_as!(
            EventRow,
            r#"select id as "id: EventId", accepted_at, type as event_type, content_type, idempotency_key,
                      cloudevent, ordering_key, tenant, expunged_at, data
               from events
               where id = any($1) and org_id = $2 and ($3::text is null or tenant = $3) and idempotency_key is not null
               order by accepted_at desc limit $4"#,
            &ids.iter().map(|id| id.as_uuid()).collect::<Vec<_>>(),
            realm.org_id.as_uuid(),
            realm.tenant(),
            limit,
        )
        .fetch_all(&self.pool)
        .await
    }

    /// One event. When several are stored under its id, the newest.
    pub(crate) async fn find_event(&self, realm: &Realm, id: EventId) -> Result<Option<EventRow>> {
        let places = self.find_event_places(realm, id).await?;
        let Some(newest) = places.first() else {
            return Ok(None);
        };
        sqlx::query_as!(
            EventRow,
            r#"select id as "id: EventId", accepted_at, type as event_type, content_type, idempotency_key,
                      cloudevent, ordering_key, tenant, expunged_at, data
               from events where org_id = $1 and accepted_at = $2 and id = $3"#,
            realm.org_id.as_uuid(),
            newest.accepted_at,
            id.as_uuid(),
        )
        .fetch_optional(&self.pool)
        .await
    }
}

/// Leases due deliveries under a token, those that are due longest first. A lease that ran out before counts as an
/// attempt. Deliveries whose leases have run out too often, or that are too old, are left to the workers, which end them.
/// `find_due_to_pull` has the same conditions.
pub(in crate::store) async fn lease<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    pull: &Pull,
    token: LeaseToken,
) -> Result<Vec<PulledRow>> {
    sqlx::query_as!(
        PulledRow,
        r#"
        with endpoint as materialized (
            select retry_attempts, retry_max_age_ms from endpoints
            where id = $2 and org_id = $1 and status = 'enabled' and tenant_enabled and deleted_at is null
        ),
        due as materialized (
            select event_id, accepted_at, next_attempt_at from deliveries
            where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull and next_attempt_at <= now()
              and exists (select from endpoint)
              -- Null, which is no limit, is not true. What was given back too often has come to its end, unless the limit was
              -- set later. Then it is leased once more, and ends with that lease.
              and (lease_token is not null
                   and attempts - attempts_before + 1 >= (select retry_attempts from endpoint)) is not true
              and (coalesce(revived_at, created_at)
                   <= now() - (select retry_max_age_ms from endpoint) * interval '1 millisecond') is not true
            order by next_attempt_at limit $3
            for update skip locked
        ),
        sized as (
            select due.event_id, due.accepted_at,
                   row_number() over (order by due.next_attempt_at, due.event_id) as number,
                   sum(octet_length(e.data) + coalesce(octet_length(e.cloudevent), 0) + coalesce(octet_length(e.baggage), 0))
                       over (order by due.next_attempt_at, due.event_id) as total
            from due join events e on e.org_id = $1 and e.accepted_at = due.accepted_at and e.id = due.event_id
        ),
        leased as (
            update deliveries d
            set lease_token = $4, next_attempt_at = now() + $5::integer * interval '1 second',
                attempts = d.attempts + (d.lease_token is not null)::integer
            from sized s
            where d.event_id = s.event_id and d.endpoint_id = $2 and d.accepted_at = s.accepted_at
              and d.org_id = $1 and (s.total <= $6 or s.number = 1)
            returning d.event_id, d.accepted_at, d.attempts, d.next_attempt_at, s.number
        )
        select l.event_id as "event_id: EventId", l.accepted_at, e.type as event_type, e.content_type, e.data,
               e.idempotency_key, e.ordering_key, e.tenant, e.traceparent, e.tracestate, e.baggage, e.cloudevent,
               l.attempts, l.next_attempt_at as "lease_expires_at!"
        from leased l join events e on e.org_id = $1 and e.accepted_at = l.accepted_at and e.id = l.event_id
        order by l.number
        "#,
        pull.org_id.as_uuid(),
        pull.endpoint_id.as_uuid(),
        i64::from(pull.max),
        token.as_uuid(),
        pull.lease_seconds,
        MAX_PAGE_BYTES as _,
    )
    .fetch_all(executor)
    .await
}
