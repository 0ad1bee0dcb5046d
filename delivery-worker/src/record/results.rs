//! Writing a group of results: one statement.

use std::collections::BTreeSet;

use shared::domain::clock::UnixMicros;
use shared::domain::event::{DELIVERY_DEAD, ENDPOINT_RECOVERED, OPERATIONAL_TYPES};
use shared::domain::id::EventId;
use sqlx::PgConnection;
use uuid::Uuid;

use crate::endpoints::retry::Next;
use crate::send::report::Report;
use crate::store::events::{millis, status};

/// What was written of a group.
pub(crate) struct Recorded {
    /// Leases whose results were written: they still held.
    pub leases: Vec<Uuid>,
    /// Those leases that were of a first attempt. Replays and recoveries do not count.
    pub first: Vec<Uuid>,
    /// Endpoints whose circuit was closed.
    pub recovered: Vec<Uuid>,
    /// Endpoints whose deliveries were held and are no more.
    pub resumed: Vec<Uuid>,
}

/// Writes the results whose lease still holds, with their attempts: the last one stands in the delivery, those before in
/// `attempts`. What is stored already is left out. Forgets the failures of endpoints that succeeded, and writes down the operational events that follow, for
/// those who want them.
///
/// A lease may run out while this runs. Once the update has come to a row the row is locked: claims skip it, and see afterwards what
/// was written. So a lease has to last until then, and not for as long as a statement may take.
///
/// # Errors
/// When Postgres does not answer or refuses a value; then nothing was written, or all of it was.
#[expect(clippy::too_many_lines, reason = "one statement, which is checked as a whole")]
pub(crate) async fn write(connection: &mut PgConnection, group: &[Report]) -> Result<Recorded, sqlx::Error> {
    let successes = successful_endpoints(group);
    let group: Vec<_> = group.iter().filter(|report| !report.is_stored).collect();
    let group = &*group;
    let accepted_at = || {
        group
            .iter()
            .map(|report| report.job.event.accepted_at.to_date_time())
    };
    sqlx::query_as!(
        Recorded,
        r#"
        with results as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::text[],
                                 $7::bigint[], $8::timestamptz[], $9::integer[], $10::text[], $11::smallint[],
                                 $12::bytea[], $13::text[], $14::uuid[], $22::boolean[])
                as r (org_id, event_id, endpoint_id, accepted_at, lease_token, status, wait_ms, started_at,
                      duration_ms, outcome, response_status, response_body, error, notice_id, tried)
            -- All of them. A limit that it does not know makes the planner expect a single row, and so look deliveries up
            -- by their keys; for the ten that it expects of arrays it would read all deliveries of the day.
            limit cardinality($1)
        ),
        recorded as (
            update deliveries d
            set status = r.status,
                attempts = d.attempts + r.tried::integer,
                next_attempt_at = now() + r.wait_ms * interval '1 millisecond',
                finished_at = case when r.status <> 'pending' then now() end,
                lease_token = null,
                last_outcome = case when r.tried or r.status = 'dead' then r.outcome else d.last_outcome end,
                last_attempt = case when r.tried then d.attempts + 1 else d.last_attempt end,
                last_started_at = case when r.tried then r.started_at else d.last_started_at end,
                last_duration_ms = case when r.tried then r.duration_ms else d.last_duration_ms end,
                last_failure = case when r.tried then nullif(r.outcome, 'delivered') else d.last_failure end,
                last_response_status = case when r.tried then r.response_status else d.last_response_status end,
                last_response_body = case when r.tried then r.response_body else d.last_response_body end,
                last_error = case when r.tried then r.error else d.last_error end
            from results r
            where d.event_id = r.event_id and d.endpoint_id = r.endpoint_id and d.accepted_at = r.accepted_at
              and d.org_id = r.org_id and d.lease_token = r.lease_token
              -- So that only the partitions of these days are opened at all.
              and d.accepted_at between $20 and $21
            returning d.org_id, d.event_id, d.endpoint_id, d.accepted_at, d.status, d.attempts, d.revived_at,
                      r.lease_token, r.outcome, r.notice_id, r.tried
        ),
        -- The attempt before makes room for this one: here a delivery is still what it was before the update.
        former as (
            insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms,
                                  outcome, response_status, response_body, error)
            select d.org_id, d.event_id, d.endpoint_id, d.accepted_at, d.last_attempt, d.last_started_at,
                   d.last_duration_ms, coalesce(d.last_failure, 'delivered'), d.last_response_status,
                   d.last_response_body, d.last_error
            from recorded r
            join deliveries d on d.event_id = r.event_id and d.endpoint_id = r.endpoint_id
                             and d.accepted_at = r.accepted_at and d.accepted_at between $20 and $21
            where r.tried and r.attempts > 1 and d.last_attempt is not null
        ),
        well as materialized (
            select endpoint_id, org_id, open_until is not null as was_open, held_until is not null as was_held,
                   waits_until > now() is true as waits, failing_since
            from endpoint_health where endpoint_id = any($15) order by endpoint_id for update
        ),
        forgotten as (
            delete from endpoint_health where endpoint_id in (select endpoint_id from well where not waits)
        ),
        -- What was under way succeeded although its receiver asked others to wait. They do.
        waiting as (
            update endpoint_health set consecutive_failures = 0, open_until = null
            where endpoint_id in (select endpoint_id from well where waits)
        ),
        notices as (
            select s.notice_id as id, w.org_id, $17 as type, w.endpoint_id,
                   json_build_object(
                       'endpoint_id', w.endpoint_id,
                       -- As `shared::domain::clock::Timestamp` writes it.
                       'failing_since', to_char(w.failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                   ) as data
            from well w
            join unnest($15::uuid[], $16::uuid[]) as s (endpoint_id, notice_id) on s.endpoint_id = w.endpoint_id
            where w.was_open
            union all
            select d.notice_id, d.org_id, $18, d.endpoint_id,
                   json_build_object('endpoint_id', d.endpoint_id, 'event_id', d.event_id, 'event_type', e.type,
                                     'attempts', d.attempts, 'reason', d.outcome)
            from recorded d
            join events e on e.org_id = d.org_id and e.accepted_at = d.accepted_at and e.id = d.event_id
            where d.status = 'dead' and e.type <> all($19) and e.accepted_at between $20 and $21
        ),
        told as (
            insert into operational_events (id, org_id, type, endpoint_id, data)
            select id, org_id, type, endpoint_id, data::text from notices
            where is_operational_event_wanted(org_id, type, endpoint_id)
        )
        select array(select lease_token from recorded) as "leases!",
               array(select lease_token from recorded where attempts = 1 and revived_at is null) as "first!",
               array(select endpoint_id from well where was_open) as "recovered!",
               array(select endpoint_id from well where was_held and not waits) as "resumed!"
        "#,
        &all(group, |report| report.job.event.org_id.as_uuid()),
        &all(group, |report| report.job.event.id.as_uuid()),
        &all(group, |report| report.job.endpoint.id.as_uuid()),
        &all(group, |report| report.job.event.accepted_at.to_date_time()),
        &all(group, |report| report.job.lease.as_uuid()),
        &all(group, Report::status) as _,
        &all(group, Report::wait_ms) as _,
        &all(group, |report| report.attempt.started_at),
        &all(group, |report| millis(report.attempt.duration)),
        &all(group, |report| report.attempt.outcome) as _,
        &all(group, |report| status(report.attempt.status)) as _,
        &group.iter().map(|report| report.attempt.response.as_slice()).collect::<Vec<_>>() as _,
        &group.iter().map(|report| report.attempt.error.as_deref()).collect::<Vec<_>>() as _,
        &all(group, |report| (report.next == Next::Dead).then(notice_id)) as _,
        &successes,
        &successes.iter().map(|_| notice_id()).collect::<Vec<_>>(),
        ENDPOINT_RECOVERED,
        DELIVERY_DEAD,
        &OPERATIONAL_TYPES as &[&str],
        accepted_at().min(),
        accepted_at().max(),
        &all(group, Report::was_tried),
    )
    .fetch_one(connection)
    .await
}

fn all<T>(group: &[&Report], field: impl Fn(&Report) -> T) -> Vec<T> {
    group.iter().map(|report| field(report)).collect()
}

fn successful_endpoints(group: &[Report]) -> Vec<Uuid> {
    let successes = group.iter().filter(|report| report.next == Next::Delivered);
    let distinct: BTreeSet<_> = successes.map(|report| report.job.endpoint.id.as_uuid()).collect();
    distinct.into_iter().collect()
}

/// The id of an operational event, should there be one.
fn notice_id() -> Uuid {
    EventId::at(UnixMicros::now()).as_uuid()
}
