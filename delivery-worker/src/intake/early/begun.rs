//! Events that have begun, until they are stored.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::id::LeaseToken;
use tokio::time::Instant;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::Permit;
use crate::endpoints::retry::Next;
use crate::send::report::Report;
use crate::store::events::Ended;

/// How long an event waits for the answers of its receivers before it is stored. A delivery without an answer is then stored like
/// any other that is under way.
const PATIENCE: Duration = Duration::from_millis(100);

/// An event whose deliveries have begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The count of endpoint changes at which its deliveries were planned.
    pub version: i64,
    pub deliveries: Vec<EarlyDelivery>,
    /// Until when it waits for answers.
    pub(super) until: Instant,
    /// The reports that came after its storing began, and are not stored with it; `None` until then.
    late: Option<Vec<Report>>,
}

/// A delivery that has begun.
#[derive(Debug)]
pub(crate) struct EarlyDelivery {
    pub endpoint: Arc<Endpoint>,
    /// The lease that it is stored under, unless it is over by then.
    pub lease: LeaseToken,
    /// Whether the endpoint has failed since its last success.
    pub fails: bool,
    pub progress: Progress,
}

/// How far an early attempt has come.
#[derive(Debug)]
pub(crate) enum Progress {
    Running,
    /// It has succeeded, or it has failed and will be tried again: its delivery is stored as that.
    Ended(Arc<Ended>, Rest),
    /// It is over, and the recorder does what follows once the delivery is stored.
    ForRecorder(Box<Report>),
}

/// What is left of an attempt that has ended, until its event is stored.
#[derive(Debug)]
pub(crate) enum Rest {
    /// Its endpoint is well.
    Well {
        /// From the event's acceptance to the end of the attempt.
        latency: Duration,
        /// Freed when the event is stored.
        #[expect(dead_code, reason = "it is held, not read")]
        permit: Permit,
    },
    /// Its endpoint fails, or fails no more: the recorder counts it.
    Unwell(Box<Report>),
}

impl Begun {
    /// An event whose attempts begin now.
    pub(crate) fn now(version: i64, deliveries: Vec<EarlyDelivery>) -> Self {
        Self {
            version,
            deliveries,
            until: Instant::now() + PATIENCE,
            late: None,
        }
    }

    /// Its deliveries as they are to be stored. Reports that come from now on go to the recorder after that.
    pub(crate) fn begin_storing(&mut self) -> &[EarlyDelivery] {
        self.late.get_or_insert_default();
        &self.deliveries
    }

    /// Notes how an attempt ended; returns a report that is about none of its deliveries.
    pub(super) fn note(&mut self, report: Report) -> Option<Report> {
        let lease = report.job.lease;
        let delivery = self
            .deliveries
            .iter_mut()
            .find(|delivery| delivery.lease == lease);
        match (&mut self.late, delivery) {
            (_, None) => return Some(report),
            (Some(late), _) => late.push(report),
            (None, Some(delivery)) => delivery.progress = Progress::of(report, delivery.fails),
        }
        None
    }

    /// What was reported while it was being stored.
    pub(crate) fn take_late(&mut self) -> Vec<Report> {
        self.late.take().unwrap_or_default()
    }

    /// How many of its attempts are not over.
    pub(super) fn running(&self) -> usize {
        let running = |delivery: &&EarlyDelivery| matches!(delivery.progress, Progress::Running);
        self.deliveries.iter().filter(running).count()
    }

    /// Whether one of its endpoints is short of permits.
    pub(super) fn is_short(&self) -> bool {
        self.deliveries
            .iter()
            .any(|delivery| delivery.endpoint.gate.is_short())
    }
}

impl Progress {
    /// The progress of an attempt that has ended. `fails` says whether its endpoint had failed before, since its last success.
    fn of(report: Report, fails: bool) -> Self {
        let gate = &report.job.endpoint.gate;
        let next_after = match report.next {
            Next::Delivered => None,
            Next::RetryIn(wait) => Some(wait),
            Next::PutOff(_) | Next::Dead => return Self::ForRecorder(Box::new(report)),
        };
        if next_after.is_some() {
            gate.note_failure();
        }
        // Its endpoint is to be held or disabled before the delivery may be claimed.
        if report.attempt.asked_wait().is_some() || report.attempt.is_gone() {
            return Self::ForRecorder(Box::new(report));
        }
        let is_well = next_after.is_none() && !fails && !gate.has_failed_lately();
        let latency = report.latency();
        let attempt = &report.attempt;
        let ended = Ended {
            started_at: attempt.started_at,
            duration: attempt.duration,
            outcome: attempt.outcome,
            status: attempt.status,
            response: attempt.response.clone(),
            error: attempt.error.clone(),
            next_after,
        };
        let rest = if is_well {
            let permit = report.permit;
            Rest::Well { latency, permit }
        } else {
            Rest::Unwell(Box::new(report))
        };
        Self::Ended(Arc::new(ended), rest)
    }

    /// How the attempt ended, if its delivery is stored with that.
    pub(crate) fn ended(&self) -> Option<&Arc<Ended>> {
        match self {
            Self::Ended(ended, _) => Some(ended),
            Self::Running | Self::ForRecorder(_) => None,
        }
    }
}
