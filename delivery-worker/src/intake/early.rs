//! First attempts that begin before their events are stored. One statement then writes an event, its deliveries and what
//! came of them, where otherwise three rows are written and one of them twice.
//!
//! The frame is acknowledged after that statement, as always. A worker that dies before it loses the knowledge that
//! receivers have answered, and they get these webhooks again: as with every attempt whose result is not recorded yet, no
//! more of them than there are permits. So only such events begin early of which nobody can have stored anything yet, and
//! on which nothing else depends: see [`Early::may_begin`].

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::domain::id::{EventId, LeaseToken};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::Permit;
use crate::endpoints::retry::Next;
use crate::intake::frame::Located;
use crate::send::attempt::Attempt;
use crate::send::report::Report;
use crate::store::events::Ended;

/// How long events wait for the answers of their receivers before they are stored. A delivery without one is then
/// stored like any other that is under way.
const PATIENCE: Duration = Duration::from_millis(100);

/// How often it is looked whether some of them can be stored before the others, and whether others can begin.
const LOOK: Duration = Duration::from_millis(10);

/// The early attempts of one batch of frames.
#[derive(Debug)]
pub(crate) struct Early {
    /// The last frame of the stream when this worker began to consume it.
    known_through: u64,
    has_begun: AtomicBool,
    reports: mpsc::UnboundedSender<Report>,
    arriving: tokio::sync::Mutex<mpsc::UnboundedReceiver<Report>>,
    begun: Mutex<HashMap<EventId, Begun>>,
}

/// An event whose deliveries have begun.
#[derive(Debug)]
pub(crate) struct Begun {
    /// The count of endpoint changes at which its deliveries were planned.
    pub version: i64,
    pub deliveries: Vec<EarlyDelivery>,
    /// Until when it waits for answers.
    until: Instant,
}

/// A delivery that has begun.
#[derive(Debug)]
pub(crate) struct EarlyDelivery {
    pub endpoint: Arc<Endpoint>,
    /// What it is stored under unless it is over by then.
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
    /// The recorder says what follows, once the delivery is stored.
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

impl Early {
    /// Of a batch from a stream whose last frame was `known_through` when this worker began to consume it.
    pub(crate) fn new(known_through: u64) -> Self {
        let (reports, arriving) = mpsc::unbounded_channel();
        Self {
            known_through,
            has_begun: AtomicBool::new(false),
            reports,
            arriving: tokio::sync::Mutex::new(arriving),
            begun: Mutex::default(),
        }
    }

    /// Whether an event may begin: nobody was handed its frame before, by what this worker knows, and the event has neither
    /// an idempotency key, whose repeats only the database knows, nor an ordering key.
    pub(crate) fn may_begin(&self, located: &Located<'_>) -> bool {
        located.frame.is_new(self.known_through)
            && located.event.idempotency_key.is_none()
            && located.event.ordering_key.is_none()
    }

    /// True once: what could not be stored is tried again without beginning more.
    pub(crate) fn begin_once(&self) -> bool {
        !self.has_begun.swap(true, Ordering::Relaxed)
    }

    /// Where its attempts report to, as long as it is there.
    pub(crate) fn reports(&self) -> &mpsc::UnboundedSender<Report> {
        &self.reports
    }

    /// The events that have begun.
    pub(crate) fn begun(&self) -> MutexGuard<'_, HashMap<EventId, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether an event has begun.
    pub(crate) fn contains(&self, id: EventId) -> bool {
        self.begun().contains_key(&id)
    }

    /// Waits for a [`LOOK`], or less if events have begun and all their attempts are over before. Returns the reports that came
    /// after their deliveries were stored: they go to the recorder.
    pub(crate) async fn look(&self, begun: &[Located<'_>]) -> Vec<Report> {
        let look = Instant::now() + LOOK;
        let mut running = self.running(begun);
        let (mut arriving, mut late) = (self.arriving.lock().await, Vec::new());
        while running > 0 || begun.is_empty() {
            let Ok(Some(report)) = timeout_at(look, arriving.recv()).await else {
                break;
            };
            match self.note(report) {
                Some(report) => late.push(report),
                None => running = running.saturating_sub(1),
            }
        }
        late
    }

    fn running(&self, events: &[Located<'_>]) -> usize {
        let begun = self.begun();
        let of_event = |located: &Located<'_>| begun.get(&located.event.id).map(Begun::running);
        events.iter().filter_map(of_event).sum()
    }

    /// Splits events that have begun into those that are to be stored now, and those that wait for answers. Those that have
    /// theirs wait for the others, for one statement, unless one is `in_hurry` or their endpoints are short of permits.
    pub(crate) fn split_over<'a>(
        &self,
        events: Vec<Located<'a>>,
        in_hurry: bool,
    ) -> (Vec<Located<'a>>, Vec<Located<'a>>) {
        let (now, all) = (Instant::now(), self.begun());
        let begun = |located: &Located<'_>| all.get(&located.event.id);
        let is_over = |located: &Located<'_>| begun(located).is_none_or(|begun| begun.running() == 0);
        let is_late = |located: &Located<'_>| begun(located).is_none_or(|begun| begun.until <= now);
        let is_short = |located: &Located<'_>| begun(located).is_some_and(Begun::is_short);
        let is_urgent =
            |located: &Located<'_>| is_late(located) || is_over(located) && (in_hurry || is_short(located));
        if !events.iter().all(is_over) && !events.iter().any(is_urgent) {
            return (Vec::new(), events);
        }
        events
            .into_iter()
            .partition(|located| is_over(located) || is_late(located))
    }

    /// Notes how an attempt ended, or returns the report of one that nobody waits for any more.
    fn note(&self, report: Report) -> Option<Report> {
        let mut begun = self.begun();
        let lease = report.job.lease;
        let deliveries = begun
            .get_mut(&report.job.event.id)
            .map(|begun| &mut begun.deliveries);
        let delivery = deliveries
            .into_iter()
            .flatten()
            .find(|delivery| delivery.lease == lease);
        match delivery {
            Some(delivery) => {
                delivery.progress = Progress::of(report, delivery.fails);
                None
            }
            None => Some(report),
        }
    }

    /// Ends it: returns the reports that came after their deliveries were stored. Later ones go to the recorder.
    pub(crate) async fn end(&self) -> Vec<Report> {
        let mut arriving = self.arriving.lock().await;
        arriving.close();
        let mut late = Vec::new();
        while let Ok(report) = arriving.try_recv() {
            late.push(report);
        }
        late
    }
}

impl Begun {
    /// An event whose attempts begin now.
    pub(crate) fn now(version: i64, deliveries: Vec<EarlyDelivery>) -> Self {
        Self {
            version,
            deliveries,
            until: Instant::now() + PATIENCE,
        }
    }

    fn running(&self) -> usize {
        let running = |delivery: &&EarlyDelivery| matches!(delivery.progress, Progress::Running);
        self.deliveries.iter().filter(running).count()
    }

    fn is_short(&self) -> bool {
        self.deliveries
            .iter()
            .any(|delivery| delivery.endpoint.gate.is_short())
    }
}

impl Progress {
    /// Of an attempt at an endpoint of which it was known before that it `fails`, or not.
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
        let Attempt {
            started_at,
            duration,
            outcome,
            status,
            ref response,
            ref error,
            ..
        } = report.attempt;
        let ended = Ended {
            started_at,
            duration,
            outcome,
            status,
            response: response.clone(),
            error: error.clone(),
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

    /// How it ended, if the delivery is to be stored as that.
    pub(crate) fn ended(&self) -> Option<&Arc<Ended>> {
        match self {
            Self::Ended(ended, _) => Some(ended),
            Self::Running | Self::ForRecorder(_) => None,
        }
    }
}
