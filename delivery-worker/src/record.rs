//! Recording results, in groups: while one group is being written the next gathers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::id::EndpointId;
use sqlx::PgPool;
use tokio::sync::mpsc;

use crate::crash::{self, Point};
use crate::deliver::Attempt;
use crate::dispatch::Job;
use crate::permits::Permit;
use crate::retry::Next;

const MAX_GROUP: usize = 500;

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
/// after its lease ran out changes nothing.
///
/// # Errors
/// When Postgres refuses a group for another reason than being away: the worker is broken.
pub async fn run(pool: PgPool, mut reports: Reports) -> anyhow::Result<()> {
    let mut group = Vec::new();
    while reports.reports.recv_many(&mut group, MAX_GROUP).await > 0 {
        crash::reach(Point::Recording);
        let recorded = loop {
            match write(&pool, &group).await {
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
        count(&group, recorded);
        disable_gone(&pool, &group).await;
        group.clear();
    }
    Ok(())
}

fn count(group: &[Report], recorded: usize) {
    let lost = group.len().saturating_sub(recorded);
    if lost > 0 {
        tracing::warn!(
            lost,
            "results came after their leases had run out; these deliveries are sent again"
        );
        metrics::counter!("leases_lost_total").increment(lost as u64);
    }
    for report in group {
        metrics::counter!("delivery_results_total", "status" => report.status()).increment(1);
        if report.next == Next::Dead {
            let (event_id, endpoint_id) = (report.job.event.id, report.job.endpoint.id);
            tracing::warn!(%event_id, %endpoint_id, attempts = report.job.attempt, "delivery is dead");
        }
    }
}

/// Writes the results whose lease still holds, with their attempts; returns how many.
async fn write(pool: &PgPool, group: &[Report]) -> Result<usize, sqlx::Error> {
    fn all<T>(group: &[Report], field: impl Fn(&Report) -> T) -> Vec<T> {
        group.iter().map(field).collect()
    }
    let recorded = sqlx::query_scalar!(
        r#"
        with results as materialized (
            select * from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::uuid[], $6::text[],
                                 $7::bigint[], $8::timestamptz[], $9::integer[], $10::text[], $11::smallint[],
                                 $12::bytea[], $13::text[])
                as r (org_id, event_id, endpoint_id, accepted_at, lease_token, status, wait_ms, started_at,
                      duration_ms, outcome, response_status, response_body, error)
        ),
        recorded as (
            update deliveries d
            set status = r.status,
                attempts = d.attempts + 1,
                next_attempt_at = now() + r.wait_ms * interval '1 millisecond',
                finished_at = case when r.status <> 'pending' then now() end,
                lease_token = null
            from results r
            where d.event_id = r.event_id and d.endpoint_id = r.endpoint_id and d.accepted_at = r.accepted_at
              and d.org_id = r.org_id and d.lease_token = r.lease_token
            returning d.event_id, d.endpoint_id, d.accepted_at, d.attempts
        ),
        attempted as (
            insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms,
                                  outcome, response_status, response_body, error)
            select r.org_id, r.event_id, r.endpoint_id, r.accepted_at, d.attempts, r.started_at, r.duration_ms,
                   r.outcome, r.response_status, r.response_body, r.error
            from recorded d
            join results r on r.event_id = d.event_id and r.endpoint_id = d.endpoint_id
                          and r.accepted_at = d.accepted_at
        )
        select count(*) as "count!" from recorded
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
    )
    .fetch_one(pool)
    .await?;
    Ok(usize::try_from(recorded).unwrap_or(usize::MAX))
}

/// Disables the endpoints that answered 410. Their other deliveries stay in the table, and are sent when the
/// endpoint is enabled again.
async fn disable_gone(pool: &PgPool, group: &[Report]) {
    for report in group.iter().filter(|report| report.attempt.is_gone()) {
        let endpoint = &report.job.endpoint;
        match disable(pool, report).await {
            Ok(true) => {
                tracing::warn!(endpoint_id = %endpoint.id, "endpoint answered 410 Gone and is disabled");
            }
            Ok(false) => {}
            // The next 410 will do it.
            Err(error) => log_not_disabled(endpoint.id, &error),
        }
    }
}

async fn disable(pool: &PgPool, report: &Report) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "update endpoints set status = 'disabled', disabled_reason = 'the receiver answered 410 Gone'
         where id = $1 and org_id = $2 and status = 'enabled'",
        report.job.endpoint.id.as_uuid(),
        report.job.endpoint.org_id.as_uuid(),
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() == 1)
}

fn log_not_disabled(endpoint_id: EndpointId, error: &sqlx::Error) {
    tracing::warn!(%endpoint_id, %error, "cannot disable an endpoint that answered 410 Gone");
}
