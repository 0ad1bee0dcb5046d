//! One endpoint's deliveries, by status.

use shared::db::limited::Transaction;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId, OrgId};
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use super::events::{ALWAYS, end_of_events};
use super::{Result, Store};
use crate::domain::cursor::Cursor;

/// Rows are counted up to this many.
pub(crate) const MAX_COUNTED: i64 = 10_000;

/// Which deliveries of an endpoint a page holds.
#[derive(Debug)]
pub(crate) struct DeliveryFilter {
    /// The organisation's.
    pub org_id: OrgId,
    /// The endpoint's tenant, if it gets only that one's events.
    pub tenant: Option<Tenant>,
    /// Those to this endpoint.
    pub endpoint_id: EndpointId,
    /// In this status.
    pub status: DeliveryStatus,
    /// Whose last attempt ended like this.
    pub outcome: Option<Outcome>,
    /// Beyond the end of the page before.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: i64,
}

impl DeliveryFilter {
    fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(Tenant::as_str)
    }
}

/// A delivery with what its endpoint's owner knows it by.
#[derive(Debug)]
pub(crate) struct EndpointDeliveryRow {
    pub event_id: EventId,
    pub event_type: String,
    pub accepted_at: OffsetDateTime,
    pub status: DeliveryStatus,
    pub attempts: i32,
    pub last_outcome: Option<Outcome>,
    /// None while an attempt is in progress.
    pub next_attempt_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
    /// The list is ordered by this time.
    pub position: OffsetDateTime,
}

/// How many deliveries have one last outcome.
#[derive(Debug)]
pub(crate) struct OutcomeCount {
    pub status: DeliveryStatus,
    /// None when there was no attempt.
    pub last_outcome: Option<Outcome>,
    pub count: i64,
}

impl Store {
    /// A page of an endpoint's deliveries, and where the next one begins. Pending ones come in the order in which they
    /// are due, the others newest first.
    pub(crate) async fn list_endpoint_deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<(Vec<EndpointDeliveryRow>, Option<Cursor>)> {
        let mut snapshot = self.snapshot().await?;
        let mut rows = match filter.status {
            DeliveryStatus::Pending => list_pending(&mut snapshot, filter).await?,
            DeliveryStatus::Dead => list_dead(&mut snapshot, filter).await?,
            DeliveryStatus::Delivered => list_delivered(&mut snapshot, filter).await?,
        };
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        if rows.len() > limit {
            rows.truncate(limit);
            let next = rows.last().map(|last| Cursor {
                at: last.position,
                id: last.event_id.as_uuid(),
            });
            return Ok((rows, next));
        }
        let next = match (filter.status, filter.outcome) {
            (DeliveryStatus::Delivered, _) => {
                let after = filter.after.unwrap_or(Cursor::NEWEST);
                end_of_events(&mut snapshot, filter.org_id, filter.tenant(), ALWAYS, after).await?
            }
            (DeliveryStatus::Pending, Some(_)) => end_of_pending(&mut snapshot, filter).await?,
            (DeliveryStatus::Dead, Some(_)) => end_of_dead(&mut snapshot, filter).await?,
            (_, None) => None,
        };
        Ok((rows, next))
    }

    /// Counts an endpoint's dead and pending deliveries by their last outcomes: up to [`MAX_COUNTED`] and one of each
    /// status.
    pub(crate) async fn count_outcomes(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
    ) -> Result<Vec<OutcomeCount>> {
        sqlx::query_as!(
            OutcomeCount,
            r#"
            select status as "status!: DeliveryStatus", last_outcome as "last_outcome: Outcome", count(*) as "count!"
            from (
                (select status, last_outcome from deliveries
                 where org_id = $1 and endpoint_id = $2 and status = 'dead' limit $3)
                union all
                (select status, last_outcome from (
                    select status, last_outcome from deliveries
                    where org_id = $1 and endpoint_id = $2 and status = 'pending' and not pull
                      and ordering_key is null
                    union all
                    select status, last_outcome from deliveries
                    where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull
                    union all
                    select status, last_outcome from deliveries
                    where org_id = $1 and endpoint_id = $2 and status = 'pending' and ordering_key is not null
                 ) pending limit $3)
            ) counted
            group by status, last_outcome
            order by status, count(*) desc, last_outcome
            "#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            MAX_COUNTED + 1,
        )
        .fetch_all(&self.pool)
        .await
    }
}

/// Each branch reads the one index that holds its rows, and skips rows with another outcome. It looks at 10 000 rows in
/// all, as below.
async fn list_pending(
    snapshot: &mut Transaction,
    filter: &DeliveryFilter,
) -> Result<Vec<EndpointDeliveryRow>> {
    let after = filter.after.unwrap_or(Cursor::OLDEST);
    sqlx::query_as!(
        EndpointDeliveryRow,
        r#"
        select d.event_id as "event_id!: EventId", e.type as event_type, d.accepted_at as "accepted_at!",
               d.status as "status!: DeliveryStatus", d.attempts as "attempts!",
               d.last_outcome as "last_outcome: Outcome",
               case when d.lease_token is null then d.next_attempt_at end as next_attempt_at, d.finished_at,
               d.next_attempt_at as "position!"
        from (
            select * from (
                select * from (
                    (select * from deliveries
                     where org_id = $1 and endpoint_id = $2 and status = 'pending' and not pull and ordering_key is null
                       and next_attempt_at >= $3 and (next_attempt_at, event_id) > ($3, $4::uuid)
                     order by next_attempt_at, event_id limit 10000)
                    union all
                    (select * from deliveries
                     where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull
                       and next_attempt_at >= $3 and (next_attempt_at, event_id) > ($3, $4::uuid)
                     order by next_attempt_at, event_id limit 10000)
                    union all
                    (select * from deliveries
                     where org_id = $1 and endpoint_id = $2 and status = 'pending' and ordering_key is not null
                       and next_attempt_at >= $3 and (next_attempt_at, event_id) > ($3, $4::uuid)
                     order by next_attempt_at, event_id limit 10000)
                ) pending
                order by next_attempt_at, event_id limit 10000
            ) scanned
            where $5::text is null or last_outcome = $5
            order by next_attempt_at, event_id limit $6
        ) d
        join events e on e.org_id = $1 and e.accepted_at = d.accepted_at and e.id = d.event_id
        order by d.next_attempt_at, d.event_id
        "#,
        filter.org_id.as_uuid(),
        filter.endpoint_id.as_uuid(),
        after.at,
        after.id,
        filter.outcome as _,
        filter.limit + 1,
    )
    .fetch_all(&mut **snapshot)
    .await
}

/// The last delivery that `list_pending` looks at. None when it looks at all of them.
async fn end_of_pending(snapshot: &mut Transaction, filter: &DeliveryFilter) -> Result<Option<Cursor>> {
    let after = filter.after.unwrap_or(Cursor::OLDEST);
    sqlx::query_as!(
        Cursor,
        r#"
        select next_attempt_at as "at!", event_id as "id!" from (
            (select next_attempt_at, event_id from deliveries
             where org_id = $1 and endpoint_id = $2 and status = 'pending' and not pull and ordering_key is null
               and next_attempt_at >= $3 and (next_attempt_at, event_id) > ($3, $4::uuid)
             order by next_attempt_at, event_id limit 10000)
            union all
            (select next_attempt_at, event_id from deliveries
             where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull
               and next_attempt_at >= $3 and (next_attempt_at, event_id) > ($3, $4::uuid)
             order by next_attempt_at, event_id limit 10000)
            union all
            (select next_attempt_at, event_id from deliveries
             where org_id = $1 and endpoint_id = $2 and status = 'pending' and ordering_key is not null
               and next_attempt_at >= $3 and (next_attempt_at, event_id) > ($3, $4::uuid)
             order by next_attempt_at, event_id limit 10000)
        ) pending
        order by next_attempt_at, event_id offset 9999 limit 1
        "#,
        filter.org_id.as_uuid(),
        filter.endpoint_id.as_uuid(),
        after.at,
        after.id,
    )
    .fetch_optional(&mut **snapshot)
    .await
}

async fn list_dead(snapshot: &mut Transaction, filter: &DeliveryFilter) -> Result<Vec<EndpointDeliveryRow>> {
    let after = filter.after.unwrap_or(Cursor::NEWEST);
    sqlx::query_as!(
        EndpointDeliveryRow,
        r#"
        select d.event_id as "event_id: EventId", e.type as event_type, d.accepted_at,
               d.status as "status: DeliveryStatus", d.attempts, d.last_outcome as "last_outcome: Outcome", d.next_attempt_at, d.finished_at, d.accepted_at as position
        from (
            select * from (
                select * from deliveries
                where org_id = $1 and endpoint_id = $2 and status = 'dead'
                  and accepted_at <= $3 and (accepted_at, event_id) < ($3, $4::uuid)
                order by accepted_at desc, event_id desc limit 10000
            ) scanned
            where $5::text is null or last_outcome = $5
            order by accepted_at desc, event_id desc limit $6
        ) d
        join events e on e.org_id = $1 and e.accepted_at = d.accepted_at and e.id = d.event_id
        order by d.accepted_at desc, d.event_id desc
        "#,
        filter.org_id.as_uuid(),
        filter.endpoint_id.as_uuid(),
        after.at,
        after.id,
        filter.outcome as _,
        filter.limit + 1,
    )
    .fetch_all(&mut **snapshot)
    .await
}

/// The last delivery that `list_dead` looks at. None when it looks at all of them.
async fn end_of_dead(snapshot: &mut Transaction, filter: &DeliveryFilter) -> Result<Option<Cursor>> {
    let after = filter.after.unwrap_or(Cursor::NEWEST);
    sqlx::query_as!(
        Cursor,
        "select accepted_at as at, event_id as id from deliveries
         where org_id = $1 and endpoint_id = $2 and status = 'dead'
           and accepted_at <= $3 and (accepted_at, event_id) < ($3, $4::uuid)
         order by accepted_at desc, event_id desc offset 9999 limit 1",
        filter.org_id.as_uuid(),
        filter.endpoint_id.as_uuid(),
        after.at,
        after.id,
    )
    .fetch_optional(&mut **snapshot)
    .await
}

/// Goes through the events of the organisation, or of the endpoint's tenant, newest first, and looks at 10 000 of them: there
/// is no index by endpoint.
async fn list_delivered(
    snapshot: &mut Transaction,
    filter: &DeliveryFilter,
) -> Result<Vec<EndpointDeliveryRow>> {
    let after = filter.after.unwrap_or(Cursor::NEWEST);
    sqlx::query_as!(
        EndpointDeliveryRow,
        r#"
        select d.event_id as "event_id: EventId", e.type as "event_type!", d.accepted_at,
               d.status as "status: DeliveryStatus", d.attempts, d.last_outcome as "last_outcome: Outcome",
               d.next_attempt_at, d.finished_at, d.accepted_at as position
        from (
            (select id, accepted_at, type from events
             where $7::text is null and org_id = $1 and accepted_at <= $3 and (accepted_at, id) < ($3, $4::uuid)
             order by accepted_at desc, id desc limit 10000)
            union all
            (select id, accepted_at, type from events
             where org_id = $1 and tenant = $7 and accepted_at <= $3 and (accepted_at, id) < ($3, $4::uuid)
             order by accepted_at desc, id desc limit 10000)
        ) e
        join deliveries d on d.event_id = e.id and d.endpoint_id = $2 and d.accepted_at = e.accepted_at
                         and d.org_id = $1 and d.status = 'delivered'
                         and ($5::text is null or d.last_outcome = $5)
        order by e.accepted_at desc, e.id desc limit $6
        "#,
        filter.org_id.as_uuid(),
        filter.endpoint_id.as_uuid(),
        after.at,
        after.id,
        filter.outcome as _,
        filter.limit + 1,
        filter.tenant(),
    )
    .fetch_all(&mut **snapshot)
    .await
}
