//! Tells whose pending deliveries keep days of events longer than they should be: once of each endpoint and day.

use shared::domain::clock::UnixMicros;
use shared::domain::event::PARTITION_KEPT;
use shared::domain::id::EventId;
use sqlx::PgPool;
use time::{Date, Duration};

/// Most endpoints in one statement.
const MAX_BATCH: usize = 500;

/// Pending deliveries of each kind are counted up to this many.
const MAX_COUNTED: i64 = 10_000;

/// Writes an operational event about each endpoint that keeps one of these days and was not told of.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn tell(pool: &PgPool, days: &[Date]) -> Result<(), sqlx::Error> {
    for day in days {
        while tell_some(pool, *day).await? == MAX_BATCH {}
    }
    Ok(())
}

/// Forgets whom it told of other days than these, which are still there.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn forget_others(pool: &PgPool, days: &[Date]) -> Result<(), sqlx::Error> {
    sqlx::query!("delete from kept_day_notices where day <> all($1)", days)
        .execute(pool)
        .await?;
    Ok(())
}

/// A walk from endpoint to endpoint over the three indexes of pending deliveries. `least` passes over null; when all three are at
/// their end, it is null and nothing follows. Returns how many endpoints it told of.
async fn tell_some(pool: &PgPool, day: Date) -> Result<usize, sqlx::Error> {
    let ids: Vec<_> = (0..MAX_BATCH)
        .map(|_| EventId::at(UnixMicros::now()).as_uuid())
        .collect();
    let since = day.midnight().assume_utc();
    let told = sqlx::query_scalar!(
        r#"
        with recursive holding (endpoint_id) as (
            select '00000000-0000-0000-0000-000000000000'::uuid
            union all
            select least(
                (select endpoint_id from deliveries
                 where accepted_at >= $1 and accepted_at < $2 and status = 'pending' and not pull
                   and ordering_key is null and endpoint_id > h.endpoint_id
                 order by endpoint_id, next_attempt_at limit 1),
                (select endpoint_id from deliveries
                 where accepted_at >= $1 and accepted_at < $2 and status = 'pending' and pull
                   and endpoint_id > h.endpoint_id
                 order by endpoint_id, next_attempt_at limit 1),
                (select endpoint_id from deliveries
                 where accepted_at >= $1 and accepted_at < $2 and status = 'pending' and ordering_key is not null
                   and endpoint_id > h.endpoint_id
                 order by endpoint_id, ordering_key, ordinal limit 1)
            )
            from holding h where h.endpoint_id is not null
        ),
        told as (
            insert into kept_day_notices (endpoint_id, org_id, day)
            select e.id, e.org_id, $3::date from holding h join endpoints e on e.id = h.endpoint_id
            where not exists (select from kept_day_notices n where n.endpoint_id = e.id and n.day = $3)
            order by e.id limit $4
            on conflict do nothing
            returning endpoint_id, org_id, day
        ),
        numbered as (
            select t.*, row_number() over (order by endpoint_id) as number from told t
        ),
        written as (
            insert into operational_events (id, org_id, type, endpoint_id, data)
            select ids.id, t.org_id, $5, t.endpoint_id,
                   json_build_object(
                       'endpoint_id', t.endpoint_id,
                       'day', t.day,
                       'pending_deliveries', (select count(*) from (
                           (select from deliveries d where d.endpoint_id = t.endpoint_id and d.accepted_at >= $1
                              and d.accepted_at < $2 and status = 'pending' and not pull and ordering_key is null
                            limit $6)
                           union all
                           (select from deliveries d where d.endpoint_id = t.endpoint_id and d.accepted_at >= $1
                              and d.accepted_at < $2 and status = 'pending' and pull limit $6)
                           union all
                           (select from deliveries d where d.endpoint_id = t.endpoint_id and d.accepted_at >= $1
                              and d.accepted_at < $2 and status = 'pending' and ordering_key is not null limit $6)
                       ) pending)
                   )::text
            from numbered t join unnest($7::uuid[]) with ordinality as ids (id, number) on ids.number = t.number
            where is_operational_event_wanted(t.org_id, $5, t.endpoint_id)
        )
        select count(*) as "told!" from told
        "#,
        since,
        since + Duration::DAY,
        day,
        i64::try_from(MAX_BATCH).unwrap_or(i64::MAX),
        PARTITION_KEPT,
        MAX_COUNTED,
        &ids,
    );
    let told = told.fetch_one(pool).await?;
    Ok(usize::try_from(told).unwrap_or_default())
}
