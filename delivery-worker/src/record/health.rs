//! What is remembered of endpoints that fail: one row each, from the first failure to the next success, shared by
//! all workers. An endpoint that is well has no row and costs no write.

mod failing;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::db::limited::LimitedPool;
use shared::domain::clock::UnixMicros;
use shared::domain::delivery::Outcome;
use shared::domain::id::{EndpointId, EventId};

use crate::endpoints::breaker::{Breaker, Circuit};
use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::Permits;
use crate::record::health::failing::{Failed, failing};
use crate::send::report::Report;

/// Waiting deliveries of each kind (in order, or not) are counted up to this many.
const MAX_COUNTED: i64 = 10_000;

/// Disables the endpoints whose receivers answered 410 Gone. To be called before these results are recorded: what is
/// recorded may be claimed again at once.
///
/// An error is only logged: the next 410 does the same again.
pub(crate) async fn disable_gone(pool: &LimitedPool, group: &[Report]) {
    let mut gone = HashMap::new();
    for report in group.iter().filter(|report| report.attempt.is_gone()) {
        let endpoint = &report.job.endpoint;
        gone.insert((endpoint.id, endpoint.version), endpoint);
    }
    for endpoint in gone.into_values() {
        log_failed(
            endpoint.id,
            give_up(pool, endpoint, "the receiver answered 410 Gone").await,
        );
    }
}

/// Counts the failures of a group of results that was recorded, and opens circuits and disables endpoints as
/// `breaker` says. Successes are counted with the results themselves.
///
/// An error is only logged: the endpoint's next failure does the same again.
pub(crate) async fn count_failures(
    pool: &LimitedPool,
    breaker: &Breaker,
    permits: &Permits,
    group: &[Report],
) {
    let failing = failing(group);
    if failing.is_empty() {
        return;
    }
    let counts: Vec<_> = failing
        .values()
        .map(|failed| (failed.endpoint, failed.count))
        .collect();
    match add_failures(pool, &counts).await {
        Ok(rows) => {
            for row in rows {
                if row.free {
                    // It may have been held until now.
                    permits.note_due(row.endpoint_id, Duration::ZERO);
                }
                if let Some(failed) = failing.get(&row.endpoint_id) {
                    log_failed(row.endpoint_id, follow_up(pool, breaker, failed, &row).await);
                }
            }
        }
        Err(error) => tracing::warn!(%error, "cannot count the failures of endpoints"),
    }
}

fn log_failed(endpoint_id: EndpointId, outcome: Result<(), sqlx::Error>) {
    if let Err(error) = outcome {
        tracing::warn!(%endpoint_id, %error, "cannot record that an endpoint fails");
    }
}

async fn follow_up(
    pool: &LimitedPool,
    breaker: &Breaker,
    failed: &Failed<'_>,
    failing: &Failing,
) -> Result<(), sqlx::Error> {
    let endpoint = failed.endpoint;
    let failures = u32::try_from(failing.failures).unwrap_or(0);
    let failing_for = Duration::try_from_secs_f64(failing.seconds).unwrap_or_default();
    match breaker.judge(failures, failing_for) {
        Circuit::Closed => Ok(()),
        Circuit::Open(pause) => {
            endpoint.gate.hold();
            open(pool, endpoint.id, pause, failed.outcome).await?;
            if breaker.warns(failing_for) && !failing.warned {
                warn(pool, endpoint.id, breaker.disable_after, failed.outcome).await?;
            }
            Ok(())
        }
        Circuit::GivenUp => {
            let time = humantime::format_duration(breaker.disable_after);
            give_up(pool, endpoint, &format!("nothing but failures for {time}")).await
        }
    }
}

/// An endpoint's failures since its last success.
struct Failing {
    endpoint_id: EndpointId,
    failures: i32,
    /// Since the first of them.
    seconds: f64,
    /// Nothing holds its deliveries.
    free: bool,
    /// Its owner was told that it will be disabled.
    warned: bool,
}

async fn add_failures(
    pool: &LimitedPool,
    counts: &[(&Arc<Endpoint>, i32)],
) -> Result<Vec<Failing>, sqlx::Error> {
    sqlx::query_as!(
        Failing,
        r#"insert into endpoint_health as h (endpoint_id, org_id, consecutive_failures, failing_since)
           select endpoint_id, org_id, failures, now()
           from unnest($1::uuid[], $2::uuid[], $3::integer[]) as f (endpoint_id, org_id, failures)
           order by endpoint_id
           on conflict (endpoint_id) do update
               set consecutive_failures = h.consecutive_failures + excluded.consecutive_failures,
                   failing_since = case when h.consecutive_failures = 0 then now() else h.failing_since end,
                   -- A receiver that fails after the time for which it asked waits no more.
                   waits_until = case when h.waits_until > now() then h.waits_until end,
                   probe_until = case when h.waits_until > now() then h.probe_until end
           returning endpoint_id as "endpoint_id: EndpointId", consecutive_failures as failures,
                     extract(epoch from now() - failing_since)::float8 as "seconds!", held_until is null as "free!",
                     coalesce(warned_at >= failing_since, false) as "warned!""#,
        &counts
            .iter()
            .map(|(endpoint, _)| endpoint.id.as_uuid())
            .collect::<Vec<_>>(),
        &counts
            .iter()
            .map(|(endpoint, _)| endpoint.org_id.as_uuid())
            .collect::<Vec<_>>(),
        &counts.iter().map(|(_, count)| *count).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await
}

/// Opens an endpoint's circuit, or keeps it open, and writes down that it has opened for those who want to know. One that
/// has succeeded meanwhile has no row and stays closed.
async fn open(
    pool: &LimitedPool,
    id: EndpointId,
    pause: Duration,
    outcome: Outcome,
) -> Result<(), sqlx::Error> {
    let opened = sqlx::query_scalar!(
        r#"with opened as (
               update endpoint_health h set open_until = now() + $2 * interval '1 millisecond'
               from (select endpoint_id, open_until from endpoint_health where endpoint_id = $1 for update) before
               where h.endpoint_id = before.endpoint_id
               returning h.endpoint_id, h.org_id, h.failing_since, before.open_until is null as is_new
           ),
           told as (
               insert into operational_events (id, org_id, type, endpoint_id, data)
               select $3, o.org_id, $4, o.endpoint_id,
                      json_build_object(
                          'endpoint_id', o.endpoint_id,
                          'failing_since', to_char(o.failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                          'reason', $5::text,
                          'waiting_deliveries', (select count(*) from (
                              (select from deliveries d where d.endpoint_id = o.endpoint_id and d.org_id = o.org_id
                                 and status = 'pending' and not pull and ordering_key is null limit $6)
                              union all
                              (select from deliveries d where d.endpoint_id = o.endpoint_id and d.org_id = o.org_id
                                 and status = 'pending' and ordering_key is not null limit $6)
                          ) waiting)
                      )::text
               from opened o where o.is_new and is_operational_event_wanted(o.org_id, $4, o.endpoint_id)
           )
           select is_new as "opened!" from opened"#,
        id.as_uuid(),
        pause.as_secs_f64() * 1e3,
        EventId::at(UnixMicros::now()).as_uuid(),
        shared::domain::event::ENDPOINT_FAILING,
        outcome as _,
        MAX_COUNTED,
    )
    .fetch_optional(pool)
    .await?;
    if opened == Some(true) {
        tracing::warn!(endpoint_id = %id, ?pause, "endpoint keeps failing, its circuit is open");
        metrics::counter!("penstock_circuits_opened_total").increment(1);
    }
    Ok(())
}

/// Writes down, once for all failures since its last success, that an endpoint will be disabled `disable_after` the first of them.
async fn warn(
    pool: &LimitedPool,
    id: EndpointId,
    disable_after: Duration,
    outcome: Outcome,
) -> Result<(), sqlx::Error> {
    let warned = sqlx::query_scalar!(
        r#"with warned as (
               update endpoint_health set warned_at = now()
               where endpoint_id = $1 and consecutive_failures > 0
                 and (warned_at is null or warned_at < failing_since)
               returning endpoint_id, org_id, failing_since
           ),
           told as (
               insert into operational_events (id, org_id, type, endpoint_id, data)
               select $3, w.org_id, $4, w.endpoint_id,
                      json_build_object(
                          'endpoint_id', w.endpoint_id,
                          'failing_since', to_char(w.failing_since at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                          'disabled_from', to_char((w.failing_since + $2 * interval '1 second') at time zone 'UTC',
                                                   'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                          'reason', $5::text
                      )::text
               from warned w where is_operational_event_wanted(w.org_id, $4, w.endpoint_id)
           )
           select count(*) as "count!" from warned"#,
        id.as_uuid(),
        disable_after.as_secs_f64(),
        EventId::at(UnixMicros::now()).as_uuid(),
        shared::domain::event::ENDPOINT_DISABLING_SOON,
        outcome as _,
    )
    .fetch_one(pool)
    .await?;
    if warned == 1 {
        tracing::warn!(endpoint_id = %id, "endpoint keeps failing, it will be disabled");
        metrics::counter!("penstock_endpoints_disabling_soon_total").increment(1);
    }
    Ok(())
}

/// Disables an endpoint, unless it was changed or deleted meanwhile: its receiver may be another one by now. Its deliveries stay in
/// the table, and are sent when it is enabled again.
async fn give_up(pool: &LimitedPool, endpoint: &Endpoint, reason: &str) -> Result<(), sqlx::Error> {
    let done = sqlx::query_scalar!(
        r#"with disabled as (
               update endpoints set status = 'disabled', disabled_reason = $3
               where id = $1 and org_id = $2 and version = $6 and status = 'enabled' and deleted_at is null
               returning id, org_id
           ),
           told as (
               insert into operational_events (id, org_id, type, endpoint_id, data)
               select $4, org_id, $5, id, json_build_object('endpoint_id', id, 'reason', $3::text)::text
               from disabled where is_operational_event_wanted(org_id, $5, id)
           )
           select count(*) as "count!" from disabled"#,
        endpoint.id.as_uuid(),
        endpoint.org_id.as_uuid(),
        reason,
        EventId::at(UnixMicros::now()).as_uuid(),
        shared::domain::event::ENDPOINT_DISABLED,
        endpoint.version,
    )
    .fetch_one(pool)
    .await?;
    if done == 1 {
        tracing::warn!(endpoint_id = %endpoint.id, reason, "endpoint is disabled");
        metrics::counter!("penstock_endpoints_disabled_total").increment(1);
    }
    Ok(())
}
