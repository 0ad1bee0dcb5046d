//! Pages of an endpoint's deliveries in one status, and their ends.

use shared::db::limited::Transaction;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::EventId;

use super::{DeliveryFilter, EndpointDeliveryRow};
use crate::domain::cursor::Cursor;
use crate::store::Result;

/// Each branch reads the one index that holds its rows, and skips rows with another outcome. It looks at 10 000 rows in
/// all, as below.
pub(super) async fn list_pending(
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
pub(super) async fn end_of_pending(
    snapshot: &mut Transaction,
    filter: &DeliveryFilter,
) -> Result<Option<Cursor>> {
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

pub(super) async fn list_dead(
    snapshot: &mut Transaction,
    filter: &DeliveryFilter,
) -> Result<Vec<EndpointDeliveryRow>> {
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
pub(super) async fn end_of_dead(
    snapshot: &mut Transaction,
    filter: &DeliveryFilter,
) -> Result<Option<Cursor>> {
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
pub(super) async fn list_delivered(
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
