//! Recording results, in groups: while one group is being written the next gathers.
//!
//! Imports `store`, `endpoints` and `send`.

pub(crate) mod results;
pub(crate) mod health;
pub(crate) mod probes;
mod waits;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::delivery::DeliveryStatus;
use tokio::sync::mpsc;

use crate::crash::{self, Point};
use crate::endpoints::attempt_counts::AttemptCounts;
use crate::endpoints::breaker::Breaker;
use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::Permits;
use crate::endpoints::retry::Next;
use crate::record::results::{Recorded, write};
use crate::send::report::Report;
use crate::store::events::Ended;
use crate::store::warm::WarmPool;

const MAX_GROUP: usize = 500;
const SMALL_GROUP: usize = 32;

/// A pause after each small group, in which the next one gathers: no receiver waits for a result to be written. Only the
/// next delivery of an ordering key does. Under load, groups gather while the one before is written; a pause would only
/// hold permits.
const PAUSE: Duration = Duration::from_millis(5);

/// Pauses between two tries to write a group while Postgres is away.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// How long a group may wait, before and after it is written, for what is written about its endpoints. A small part of a
/// lease.
const HEALTH_PATIENCE: Duration = Duration::from_secs(1);

/// Hands reports to the task that writes them.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    reports: mpsc::UnboundedSender<Report>,
    behind: Arc<AtomicBool>,
}

/// The other end of the [`Recorder`]s: what [`run`] reads.
#[derive(Debug)]
pub(crate) struct Reports {
    reports: mpsc::UnboundedReceiver<Report>,
    behind: Arc<AtomicBool>,
}

impl Recorder {
    /// A recorder, and the end that [`run`] reads.
    pub(crate) fn channel() -> (Self, Reports) {
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
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Has a result written.
    pub(crate) fn record(&self, report: Report) {
        if self.reports.send(report).is_err() {
            tracing::warn!("a result came after the recorder had stopped; its lease will run out");
        }
    }
}

/// Writes reports until every [`Recorder`] is gone. While Postgres is away it keeps trying: a result that comes
/// after its lease ran out changes nothing. Endpoints that fail are judged by `breaker`; attempts are counted in `counts`.
///
/// # Errors
/// When Postgres refuses a group for another reason than being away: the worker is broken.
pub(crate) async fn run(
    database: WarmPool,
    mut reports: Reports,
    breaker: Breaker,
    permits: Permits,
    counts: Arc<AttemptCounts>,
) -> anyhow::Result<()> {
    let mut group = Vec::new();
    while reports.reports.recv_many(&mut group, MAX_GROUP).await > 0 {
        crash::reach(Point::Recording);
        patiently(health::disable_gone(database.pool(), &group)).await;
        patiently(waits::hold(database.pool(), &group)).await;
        let begun = UnixMicros::now();
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
        release(&group, &recorded, begun);
        count(&group, &recorded, &counts);
        patiently(health::count_failures(
            database.pool(),
            &breaker,
            &permits,
            &group,
        ))
        .await;
        let next_of_a_key = group.iter().any(|report| report.job.ordered);
        let is_small = group.len() < SMALL_GROUP;
        note_due(&permits, &group, &recorded);
        group.clear();
        if next_of_a_key || !recorded.resumed.is_empty() {
            permits.wake_claimer();
        }
        if !next_of_a_key && is_small {
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(())
}

/// Says which endpoints' rows may be due now or later: retries, the next ones of a key, what was held.
fn note_due(permits: &Permits, group: &[Report], recorded: &Recorded) {
    for report in group {
        let after = match report.next {
            Next::RetryIn(wait) | Next::PutOff(wait) => wait,
            Next::Delivered | Next::Dead if report.job.ordered => Duration::ZERO,
            Next::Delivered | Next::Dead => continue,
        };
        permits.note_due(report.job.endpoint.id, after);
    }
    for id in &recorded.resumed {
        permits.note_due((*id).into(), Duration::ZERO);
    }
}

/// Gives up on `health` after [`HEALTH_PATIENCE`]: somebody may have locked the endpoint's row.
async fn patiently(health: impl Future<Output = ()>) {
    if tokio::time::timeout(HEALTH_PATIENCE, health).await.is_err() {
        tracing::warn!("cannot record in time that endpoints fail; their next failures will tell");
    }
}

/// Says which endpoints are not held: those that have answered what was sent to them since, and those that the table, written since
/// `begun`, holds no more.
fn release(group: &[Report], recorded: &Recorded, begun: UnixMicros) {
    for report in group.iter().filter(|report| report.next == Next::Delivered) {
        let endpoint = &report.job.endpoint;
        let known_at = if recorded.resumed.contains(&endpoint.id.as_uuid()) {
            begun
        } else {
            report.attempt.started_at.into()
        };
        endpoint.gate.release(known_at);
    }
}

fn count(group: &[Report], recorded: &Recorded, counts: &AttemptCounts) {
    let to_record = group.iter().filter(|report| !report.is_stored).count();
    let lost = to_record.saturating_sub(recorded.leases.len());
    if lost > 0 {
        tracing::warn!(
            lost,
            "results came after their leases had run out; these deliveries are sent again"
        );
        metrics::counter!("penstock_leases_lost_total").increment(lost as u64);
    }
    for endpoint_id in &recorded.recovered {
        tracing::info!(%endpoint_id, "endpoint takes deliveries again, its circuit is closed");
    }
    let held: HashSet<_> = recorded.leases.iter().copied().collect();
    let first: HashSet<_> = recorded.first.iter().copied().collect();
    for report in group {
        let lease = report.job.lease.as_uuid();
        if report.next == Next::Delivered && (report.is_stored || first.contains(&lease)) {
            metrics::histogram!("penstock_event_to_delivery_seconds").record(report.latency());
        }
        if !report.is_stored && !held.contains(&lease) {
            continue;
        }
        if report.was_tried() {
            let succeeded = report.next == Next::Delivered;
            if !succeeded {
                report.job.endpoint.gate.note_failure();
            }
            counts.count(&report.job.endpoint, succeeded, report.attempt.duration);
        } else if report.next != Next::Dead {
            continue;
        }
        metrics::counter!("penstock_delivery_results_total", "status" => report.status().as_str())
            .increment(1);
        if report.next == Next::Dead {
            let (event_id, endpoint_id) = (report.job.event.id, report.job.endpoint.id);
            let attempts = report.job.attempt - u32::from(!report.was_tried());
            tracing::warn!(%event_id, %endpoint_id, attempts, "delivery is dead");
        }
    }
}

/// Counts a first attempt whose success was stored together with its event. It ended `latency` after the event's acceptance.
pub(crate) fn count_first_success(
    endpoint: &Endpoint,
    ended: &Ended,
    latency: Duration,
    counts: &AttemptCounts,
) {
    // Meanwhile another delivery's answer may have asked to wait.
    endpoint.gate.release(ended.started_at.into());
    counts.count(endpoint, true, ended.duration);
    metrics::histogram!("penstock_event_to_delivery_seconds").record(latency);
    metrics::counter!("penstock_delivery_results_total", "status" => DeliveryStatus::Delivered.as_str())
        .increment(1);
}

async fn try_to_write(database: &WarmPool, group: &[Report]) -> Result<Recorded, sqlx::Error> {
    let writing = async {
        let mut connection = database.acquire().await?;
        let recorded = write(&mut connection, group).await?;
        connection.keep();
        Ok(recorded)
    };
    database.pool().within(writing).await
}
