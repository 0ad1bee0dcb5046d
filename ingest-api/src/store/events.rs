//! Events, their deliveries and their attempts, as workers have stored them.

mod attempts;

use std::ops::Range;

use shared::db::limited::Transaction;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, EventId, OrgId};
use time::OffsetDateTime;

pub(crate) use self::attempts::{AttemptRow, DeliveryRow};
use super::{MAX_PAGE_BYTES, Result, Store};
use crate::domain::cursor::Cursor;
use crate::domain::realm::Realm;

/// All times at which an event may have been accepted.
pub(super) const ALWAYS: Range<OffsetDateTime> = OffsetDateTime::UNIX_EPOCH..Cursor::NEWEST.at;

/// Which events a page holds.
#[derive(Debug)]
pub(crate) struct EventFilter<'a> {
    /// Whose.
    pub realm: Realm,
    /// Of this type.
    pub event_type: Option<&'a str>,
    /// Accepted at this time or later.
    pub from: Option<OffsetDateTime>,
    /// Accepted before this time.
    pub to: Option<OffsetDateTime>,
    /// With a delivery in this status.
    pub status: Option<DeliveryStatus>,
    /// With a delivery to this endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// Older than the end of the page before.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: i64,
}

impl EventFilter<'_> {
    // Bounds that are always there: a condition that may be null would hide them from the planner.
    fn times(&self) -> Range<OffsetDateTime> {
        self.from.unwrap_or(ALWAYS.start)..self.to.unwrap_or(ALWAYS.end)
    }

    /// Whether it may skip events within its times.
    fn leaves_out(&self) -> bool {
        self.event_type.is_some() || self.status.is_some() || self.endpoint_id.is_some()
    }
}

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

impl Store {
    /// A page of events, newest first, and where the next page begins. The query looks at 10 000 events at most; the
    /// next page begins after them, however few of them matched.
    pub(crate) async fn list_events(
        &self,
        filter: &EventFilter<'_>,
    ) -> Result<(Vec<EventRow>, Option<Cursor>)> {
        let (times, after) = (filter.times(), filter.after.unwrap_or(Cursor::NEWEST));
        let mut snapshot = self.snapshot().await?;
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
                        and ($7 is null or d.status = $7) and ($8 is null or d.endpoint_id = $8)))
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
        )
        .fetch_all(&mut *snapshot)
        .await?;
        let found = rows.first().map_or(0, |row| row.found);
        let more = usize::try_from(found).is_ok_and(|found| found > rows.len());
        let events: Vec<_> = rows
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
        let next = match events.last() {
            Some(last) if more => Some(Cursor {
                at: last.accepted_at,
                id: last.id.as_uuid(),
            }),
            _ if filter.leaves_out() => {
                end_of_events(
                    &mut snapshot,
                    filter.realm.org_id,
                    filter.realm.tenant(),
                    times,
                    after,
                )
                .await?
            }
            _ => None,
        };
        Ok((events, next))
    }

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

/// The last of the 10 000 events, or of its tenant's, older than `before` that a page looks at. None when it looks at all of them.
pub(super) async fn end_of_events(
    snapshot: &mut Transaction,
    org_id: OrgId,
    tenant: Option<&str>,
    times: Range<OffsetDateTime>,
    before: Cursor,
) -> Result<Option<Cursor>> {
    sqlx::query_as!(
        Cursor,
        r#"(select accepted_at as "at!", id as "id!" from events
            where $6::text is null and org_id = $1 and accepted_at >= $2 and accepted_at < $3
              and accepted_at <= $4 and (accepted_at, id) < ($4, $5::uuid)
            order by accepted_at desc, id desc offset 9999 limit 1)
           union all
           (select accepted_at, id from events
            where org_id = $1 and tenant = $6 and accepted_at >= $2 and accepted_at < $3
              and accepted_at <= $4 and (accepted_at, id) < ($4, $5::uuid)
            order by accepted_at desc, id desc offset 9999 limit 1)"#,
        org_id.as_uuid(),
        times.start,
        times.end,
        before.at,
        before.id,
        tenant,
    )
    .fetch_optional(&mut **snapshot)
    .await
}
