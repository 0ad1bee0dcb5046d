//! Early attempts: first attempts that begin before their events are stored. One statement then writes an event, its deliveries
//! and their results. Otherwise three rows are written, and one of them twice.
//!
//! The frame is acknowledged after that statement, as always. When a worker dies before it, nobody knows that receivers have
//! answered, and they get these webhooks again. As with every attempt whose result is not recorded yet, there are no more of them
//! than permits. An event begins early only if nobody can have stored it yet and nothing else depends on it: see
//! [`Early::may_begin`].
//!
//! The files in this folder and those beside it belong together: `plan`, `write` and `put_off` import this file, and `begin` and
//! `course` import the first two.

pub(crate) mod begun;
pub(crate) mod begin;
mod course;
pub(crate) mod lack;
pub(crate) mod patient;
mod waiting;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::domain::id::EventId;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::intake::early::begun::Begun;
use crate::intake::early::patient::Patient;
use crate::intake::early::waiting::Waiting;
use crate::intake::frame::Located;
use crate::send::report::Report;

/// The early attempts of one batch of frames.
#[derive(Debug)]
pub(crate) struct Early {
    /// The stream's last frame when this worker began to consume it.
    known_through: u64,
    patient: Patient,
    has_begun: AtomicBool,
    reports: mpsc::UnboundedSender<Report>,
    arriving: tokio::sync::Mutex<mpsc::UnboundedReceiver<Report>>,
    begun: Mutex<HashMap<EventId, Begun>>,
}

/// Why a look is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looked {
    /// Events that wait may find permits.
    Woken,
    /// All attempts are over, or it is time: what is over may be stored.
    Due,
}

impl Early {
    /// For a batch from a stream whose last frame was `known_through` when this worker began to consume it. The batch counts as
    /// `patient` while it waits for answers only.
    pub(crate) fn new(known_through: u64, patient: Patient) -> Self {
        let (reports, arriving) = mpsc::unbounded_channel();
        Self {
            known_through,
            patient,
            has_begun: AtomicBool::new(false),
            reports,
            arriving: tokio::sync::Mutex::new(arriving),
            begun: Mutex::default(),
        }
    }

    /// Whether an event may begin. Nobody may have been handed its frame before, as far as this worker knows. The event may have
    /// no ordering key, and no idempotency key either: only the database knows the repeats of one.
    pub(crate) fn may_begin(&self, located: &Located<'_>) -> bool {
        located.frame.is_new(self.known_through)
            && located.event.idempotency_key.is_none()
            && located.event.ordering_key.is_none()
    }

    /// True only once: what could not be stored is tried again without beginning more.
    pub(crate) fn begin_once(&self) -> bool {
        !self.has_begun.swap(true, Ordering::Relaxed)
    }

    /// Where the attempts report, until the batch ends.
    pub(crate) fn reports(&self) -> &mpsc::UnboundedSender<Report> {
        &self.reports
    }

    /// The events that have begun.
    pub(crate) fn begun(&self) -> MutexGuard<'_, HashMap<EventId, Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether events that have begun are not stored yet.
    pub(crate) fn is_unstored(&self) -> bool {
        !self.begun().is_empty()
    }

    /// Whether an event has begun.
    pub(crate) fn contains(&self, id: EventId) -> bool {
        self.begun().contains_key(&id)
    }

    /// Waits until all attempts of the events in `begun` are over, until those that are `waiting` may find permits, or until the
    /// time `until`. Reports of deliveries that were stored before they came go to `record`. May be dropped while it waits.
    async fn look(
        &self,
        begun: &[Located<'_>],
        waiting: &mut Waiting<'_>,
        until: Instant,
        record: impl Fn(Report),
    ) -> Looked {
        let mut running = self.running(begun);
        let mut arriving = self.arriving.lock().await;
        while running > 0 || begun.is_empty() {
            tokio::select! {
                Some(report) = arriving.recv() => match self.note(report) {
                    Some(report) => record(report),
                    None => running = running.saturating_sub(1),
                },
                () = waiting.woken() => return Looked::Woken,
                () = tokio::time::sleep_until(until) => break,
            }
        }
        Looked::Due
    }

    /// How many attempts of these events are not over.
    fn running(&self, events: &[Located<'_>]) -> usize {
        let begun = self.begun();
        let of_event = |located: &Located<'_>| begun.get(&located.event.id).map(Begun::running);
        events.iter().filter_map(of_event).sum()
    }

    /// Splits events that have begun into those to store now and those that wait for answers. An event that has all its answers
    /// waits for the others, so that one statement stores them. It does not wait when others are `in_hurry`, when one of its
    /// endpoints is short of permits, or when some event has waited too long.
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

    /// Notes how an attempt ended, or returns the report when its event is stored already.
    fn note(&self, report: Report) -> Option<Report> {
        let mut begun = self.begun();
        match begun.get_mut(&report.job.event.id) {
            Some(begun) => begun.note(report),
            None => Some(report),
        }
    }

    /// Ends the batch. Returns the reports that came after their deliveries were stored; later ones go to the recorder.
    pub(crate) async fn end(&self) -> Vec<Report> {
        let mut arriving = self.arriving.lock().await;
        arriving.close();
        let mut late: Vec<_> = self.begun().values_mut().flat_map(Begun::take_late).collect();
        // `try_recv` would pass over one that is just being sent.
        while let Some(report) = arriving.recv().await {
            late.push(report);
        }
        late
    }
}
