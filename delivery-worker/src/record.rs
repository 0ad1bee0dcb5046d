//! Recording results, in groups: while one group is being written the next gathers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::clock::UnixMicros;
use shared::event::{DELIVERY_DEAD, ENDPOINT_RECOVERED, OPERATIONAL_TYPES};
use shared::id::EventId;
use sqlx::PgConnection;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::breaker::Breaker;
use crate::crash::{self, Point};
use crate::deliver::Attempt;
use crate::dispatch::Job;
use crate::health;
use crate::permits::{Permit, Permits};
use crate::retry::Next;
use crate::warm::WarmPool;

const MAX_GROUP: usize = 500;
const SMALL_GROUP: usize = 32;

/// A pause after each small group, in which the next one gathers: no receiver waits for a result to be written. Nothing but
/// the next delivery of an ordering key does. Under load, groups gather while the one before is written; a pause would only
/// hold permits.
const PAUSE: Duration = Duration::from_millis(5);

/// Pauses between two tries to write a group while Postgres is away.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// The end of an attempt, still holding its permit: what waits to be recorded is bounded by the permits.
#[derive(Debug)]
pub struct Report {
    /// The delivery.
    pub job: Job,
    /// What became of the attempt.
    pub attempt: Attempt,
    /// What becomes of the delivery.
    pub next: Next,
    /// Freed, by its drop, when the result is recorded.
    #[expect(dead_code, reason = "it is held, not read")]
    pub permit: Permit,
}

impl Report {
    fn status(&self) -> &'static str {
        match self.next {
            Next::Delivered => "delivered",
            Next::RetryIn(_) => "pending",
            Next::Dead => "dead",
        }
    }

    fn wait_ms(&self) -> Option<i64> {
        match self.next {
            Next::RetryIn(wait) => Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX)),
            Next::Delivered | Next::Dead => None,
        }
    }
}

/// Hands reports to the task that writes them.
#[derive(Clone, Debug)]
pub struct Recorder {
    reports: mpsc::UnboundedSender<Report>,
    behind: Arc<AtomicBool>,
}

/// The other end of the [`Recorder`]s: what [`run`] reads.
#[derive(Debug)]
pub struct Reports {
    reports: mpsc::UnboundedReceiver<Report>,
    behind: Arc<AtomicBool>,
}

impl Recorder {
    /// A recorder, and the end that [`run`] reads.
    pub fn channel() -> (Self, Reports) {
        let (sender, reports) = mpsc::unbounded_channel();
        let behind = Arc::new(AtomicBool::new(false));
        (
            Self {
                reports: sender,
                behind: behind.clone(),
            },
            Reports { reports, behind },
        )
    }

    /// Whether results could not be written and are still waiting. Their leases may run out meanwhile; whoever
    /// claims such a delivery sends it again.
    pub fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Has a result written.
    pub fn record(&self, report: Report) {
        if self.reports.send(report).is_err() {
            tracing::warn!("a result came after the recorder had stopped; its lease will run out");
        }
    }
}

/// Writes reports until every [`Recorder`] is gone. While Postgres is away it keeps trying: a result that comes
/// after its lease ran out changes nothing. Endpoints that fail are judged by `breaker`.
///
/// # Errors
/// When Postgres refuses a group for another reason than being away: the worker is broken.
pub async fn run(
    database: WarmPool,
    mut reports: Reports,
    breaker: Breaker,
    permits: Permits,
) -> anyhow::Result<()> {
    let mut group = Vec::new();
    while reports.reports.recv_many(&mut group, MAX_GROUP).await > 0 {
        crash::reach(Point::Recording);
        health::disable_gone(database.pool(), &group).await;
        let recorded = loop {
            match try_to_write(&database, &group).await {
                Ok(recorded) => break recorded,
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, results = group.len(), "cannot record results, trying again");
                    reports.behind.store(true, Ordering::Relaxed);
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        crash::reach(Point::Recorded);
        reports.behind.store(false, Ordering::Relaxed);
        count(&group, &recorded);
        health::count_failures(database.pool(), &breaker, &group).await;
        let next_of_a_key = group.iter().any(|report| report.job.ordered);
        let is_small = group.len() < SMALL_GROUP;
        group.clear();
        if next_of_a_key || !recorded.recovered.is_empty() {
            permits.wake_claimer();
        }
        if !next_of_a_key && is_small {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// What the write of a group has done.
struct Recorded {
    /// Results whose lease still held.
    results: i64,
    /// Endpoints whose circuit was open and is closed.
    recovered: Vec<Uuid>,
}

fn count(group: &[Report], recorded: &Recorded) {
    let lost = group
        .len()
        .saturating_sub(usize::try_from(recorded.results).unwrap_or(usize::MAX));
    if lost > 0 {
        tracing::warn!(
            lost,
            "results came after their leases had run out; these deliveries are sent again"
        );
        metrics::counter!("leases_lost_total").increment(lost as u64);
    }
    for endpoint_id in &recorded.recovered {
        tracing::info!(%endpoint_id, "endpoint takes deliveries again, its circuit is closed");
    }
    for report in group {
        if report.next == Next::Delivered {
            report.job.endpoint.gate.set_circuit_open(false);
        }
        metrics::counter!("delivery_results_total", "status" => report.status()).increment(1);
        if report.next == Next::Dead {
            let (event_id, endpoint_id) = (report.job.event.id, report.job.endpoint.id);
            tracing::warn!(%event_id, %endpoint_id, attempts = report.job.attempt, "delivery is dead");
        }
    }
}

async fn try_to_write(database: &WarmPool, group: &[Report]) -> Result<Recorded, sqlx::Error> {
    let mut connection = database.acquire().await?;
    let recorded = write(&mut connection, group).await?;
    connection.keep();
    Ok(recorded)
}

/// Writes the results whose lease still holds, with their attempts; forgets the failures of endpoints that succeeded;
/// and writes down the operational events that follow, for those who want them.
async fn write(connection: &mut PgConnection, group: &[Report]) -> Result<Recorded, sqlx::Error> {
    fn all<T>(group: &[Report], field: impl Fn(&Report) -> T) -> Vec<T> {
        group.iter().map(field).collect()
    }
    let successes = successful_endpoints(group);
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
                                 $12::bytea[], $13::text[], $14::uuid[])
                as r (org_id, event_id, endpoint_id, accepted_at, lease_token, status, wait_ms, started_at,
                      duration_ms, outcome, response_status, response_body, error, notice_id)
            -- All of them. A limit that it does not know makes the planner expect a single row, and so look deliveries up
            -- by their keys; for the ten that it expects of arrays it would read all deliveries of the day.
            limit cardinality($1)
        ),
        recorded as (
            update deliveries d
            set status = r.status,
                attempts = d.attempts + 1,
                next_attempt_at = now() + r.wait_ms * interval '1 millisecond',
                finished_at = case when r.status <> 'pending' then now() end,
                lease_token = null,
                last_outcome = r.outcome
            from results r
            where d.event_id = r.event_id and d.endpoint_id = r.endpoint_id and d.accepted_at = r.accepted_at
              and d.org_id = r.org_id and d.lease_token = r.lease_token
              -- So that only the partitions of these days are opened at all.
              and d.accepted_at between $20 and $21
            returning d.org_id, d.event_id, d.endpoint_id, d.accepted_at, d.status, d.attempts, r.started_at,
                      r.duration_ms, r.outcome, r.response_status, r.response_body, r.error, r.notice_id
        ),
        attempted as (
            insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms,
                                  outcome, response_status, response_body, error)
            select org_id, event_id, endpoint_id, accepted_at, attempts, started_at, duration_ms, outcome,
                   response_status, response_body, error
            from recorded
        ),
        well as (
            delete from endpoint_health where endpoint_id in (
                select endpoint_id from endpoint_health where endpoint_id = any($15) order by endpoint_id for update
            )
            returning endpoint_id, org_id, open_until is not null as was_open, failing_since
        ),
        notices as (
            select s.notice_id as id, w.org_id, $17 as type, w.endpoint_id,
                   json_build_object('endpoint_id', w.endpoint_id, 'failing_since', w.failing_since) as data
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
        select (select count(*) from recorded) as "results!",
               array(select endpoint_id from well where was_open) as "recovered!"
        "#,
        &all(group, |report| report.job.event.org_id.as_uuid()),
        &all(group, |report| report.job.event.id.as_uuid()),
        &all(group, |report| report.job.endpoint.id.as_uuid()),
        &all(group, |report| report.job.event.accepted_at.to_date_time()),
        &all(group, |report| report.job.lease.as_uuid()),
        &all(group, Report::status) as _,
        &all(group, Report::wait_ms) as _,
        &all(group, |report| report.attempt.started_at),
        &all(group, |report| i32::try_from(report.attempt.duration.as_millis()).unwrap_or(i32::MAX)),
        &all(group, |report| report.attempt.outcome) as _,
        &all(group, |report| report.attempt.status.and_then(|status| i16::try_from(status).ok())) as _,
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
    )
    .fetch_one(connection)
    .await
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
