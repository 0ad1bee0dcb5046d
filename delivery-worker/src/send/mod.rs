//! Starting deliveries: each is a task that holds its permit and its lease, makes one attempt, and hands the
//! result to the recorder.
//!
//! Imports `config` and `endpoints`, and the recorder of `record`.

pub(crate) mod lookups;
pub(crate) mod room;
pub(crate) mod client;
pub(crate) mod job;
pub(crate) mod content;
mod retry_after;
pub(crate) mod attempt;
mod trace;
pub(crate) mod report;
pub(crate) mod signing;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use shared::domain::clock::UnixMicros;
use shared::process::panics::panic_text;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::line_limit::LineLimit;
use shared::traces::Traces;
use shared::traces::span::Span;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::crash::{self, Point};
use crate::endpoints::permits::Permit;
use crate::endpoints::retry::{Next, Verdict};
use crate::record::Recorder;
use crate::send::attempt::{Attempt, Sender};
use crate::send::job::Job;
use crate::send::report::Report;

static FAILED: LineLimit = LineLimit::new("failed attempts");
static PUT_OFF: LineLimit = LineLimit::new("deliveries put off");

/// Starts deliveries.
#[derive(Clone, Debug)]
pub(crate) struct Dispatcher {
    sender: Arc<Sender>,
    recorder: Recorder,
    tasks: Tasks,
    /// Where the spans of attempts are recorded, if any are.
    traces: Option<Traces>,
}

impl Dispatcher {
    /// Deliveries run as tasks of `tasks`.
    pub(crate) fn new(sender: Sender, recorder: Recorder, tasks: Tasks, traces: Option<Traces>) -> Self {
        Self {
            sender: Arc::new(sender),
            recorder,
            tasks,
            traces,
        }
    }

    /// Whether results wait to be written. Then no delivery should be claimed: its result may be among them.
    pub(crate) fn is_behind(&self) -> bool {
        self.recorder.is_behind()
    }

    /// Starts a delivery that is stored.
    pub(crate) fn start(&self, job: Job, permit: Permit) {
        let recorder = self.recorder.clone();
        self.attempt(job, permit, move |report| recorder.record(report));
    }

    /// Leaves a delivery that is stored under a lease in the table, where the claimer keeps it until its endpoint is held no
    /// more.
    pub(crate) fn put_off(&self, job: Job, permit: Permit) {
        self.recorder.record(Report {
            job,
            attempt: Attempt::not_made(),
            next: Next::PutOff(Duration::ZERO),
            permit,
            is_stored: false,
        });
    }

    /// Starts a delivery before it is stored. Its report goes to `reports`; when nobody reads them any more, it is stored, and
    /// its result is recorded.
    pub(crate) fn begin(&self, job: Job, permit: Permit, reports: mpsc::UnboundedSender<Report>) {
        let recorder = self.recorder.clone();
        self.attempt(job, permit, move |report| {
            if let Err(mpsc::error::SendError(report)) = reports.send(report) {
                recorder.record(report);
            }
        });
    }

    /// Has the result of a delivery recorded that is stored.
    pub(crate) fn record(&self, report: Report) {
        self.recorder.record(report);
    }

    /// Makes an attempt. One that panics counts as a failure: it is recorded, and tried again by the schedule.
    fn attempt(&self, job: Job, mut permit: Permit, report: impl FnOnce(Report) + Send + 'static) {
        let sender = self.sender.clone();
        let span = self.traces.as_ref().and_then(|traces| trace::begin(traces, &job));
        self.tasks.spawn("delivery", async move {
            crash::reach(Point::Sending);
            let context = span.as_ref().map(Span::context);
            let attempt = contained(sender.attempt(&job.event, &job.endpoint, context)).await;
            crash::reach(Point::Answered);
            let verdict = attempt.verdict();
            count(&attempt);
            job.endpoint.gate.note_answer(attempt.duration);
            if attempt.asked_wait().is_some() {
                job.endpoint.gate.hold();
            }
            // A failure keeps its slot until it is recorded: it may open the circuit.
            if verdict == Verdict::Delivered {
                permit.leave_endpoint();
            }
            let age = job.age + attempt.duration;
            let next = job.policy().next(job.attempt, verdict, age, rand::random());
            if matches!(verdict, Verdict::Failed { .. }) {
                log_failure(&job, &attempt, next);
            }
            if let Some(span) = span {
                trace::end(span, &job, &attempt, next);
            }
            report(Report {
                job,
                attempt,
                next,
                permit,
                is_stored: false,
            });
        });
    }
}

/// The attempt, or a failed one if it panics.
async fn contained(attempt: impl Future<Output = Attempt>) -> Attempt {
    let (started_at, started) = (UnixMicros::now().to_date_time(), Instant::now());
    match AssertUnwindSafe(attempt).catch_unwind().await {
        Ok(attempt) => attempt,
        Err(panic) => {
            let panic = panic_text(&*panic);
            tracing::error!(panic, "an attempt panicked");
            Attempt::panicked(started_at, started.elapsed(), panic)
        }
    }
}

fn count(attempt: &Attempt) {
    if let Some(lack) = attempt.lack {
        metrics::counter!("penstock_deliveries_put_off_total", "lack" => lack).increment(1);
        if let Some(left_out) = PUT_OFF.pass() {
            let error = attempt.error.as_deref().unwrap_or_default();
            tracing::warn!(
                lack,
                error,
                left_out,
                "a delivery is put off, this worker is short of something"
            );
        }
        return;
    }
    metrics::counter!("penstock_attempts_total", "outcome" => attempt.outcome.as_str()).increment(1);
    metrics::histogram!("penstock_attempt_duration_seconds").record(attempt.duration);
}

fn log_failure(job: &Job, attempt: &Attempt, next: Next) {
    let Some(left_out) = FAILED.pass() else { return };
    let again_in = match next {
        Next::RetryIn(wait) | Next::PutOff(wait) => Some(wait),
        Next::Delivered | Next::Dead => None,
    };
    tracing::info!(
        event_id = %job.event.id,
        endpoint_id = %job.endpoint.id,
        organization_id = %job.event.org_id,
        tenant = job.event.tenant.as_deref(),
        attempt = job.attempt,
        outcome = attempt.outcome.as_str(),
        status = attempt.status,
        error = attempt.error.as_deref(),
        duration = ?attempt.duration,
        again_in = again_in.map(tracing::field::debug),
        left_out,
        "an attempt failed"
    );
}

#[cfg(test)]
mod tests {
    use shared::domain::delivery::Outcome;

    use super::*;

    #[tokio::test]
    async fn an_attempt_that_panics_has_failed_and_says_why() {
        let attempt = contained(async { panic!("out of luck\0") }).await;
        assert_eq!(
            (attempt.outcome, attempt.error.as_deref()),
            (Outcome::Panic, Some("out of luck"))
        );
        assert!(matches!(attempt.verdict(), Verdict::Failed { .. }));
    }
}
