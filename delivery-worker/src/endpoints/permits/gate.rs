//! One endpoint's share of permits.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::endpoints::permits::queue::{Queue, Waiter};

/// How long a backlog that intake has begun counts as one of a moment.
pub(super) const MOMENT: Duration = Duration::from_secs(2);

/// Deliveries a second that a quick receiver would take at least.
const QUICK: u64 = 2_000;

/// A receiver that has given no answer for so long is not quick, whatever it was before: it may hang.
pub(super) const SILENCE: Duration = Duration::from_millis(200);

/// About how many answers are in the average.
const ANSWERS: u64 = 16;

/// What takes longer counts as this in the average, in microseconds.
const LONGEST_ANSWER: u64 = 60_000_000;

/// The part of an endpoint's leases that is to be free before one that waits for them is woken.
const WAKING: usize = 8;

/// How long an endpoint counts as one that fails after a failure.
const FAILURE_MEMORY: Duration = Duration::from_secs(1);

/// One endpoint's share.
#[derive(Debug)]
pub(crate) struct Gate {
    most_leases: usize,
    pub(super) slots: Arc<Semaphore>,
    pub(super) leases: Arc<Semaphore>,
    // New events that wait for permits.
    pub(super) queue: Queue,
    // Due deliveries wait in the table. New events queue up behind them, and a freed permit wakes the claimer.
    pub(super) backlogged: AtomicBool,
    // When intake last found nothing there and wrote some: what lay there before it takes longer to be sent.
    overflowed_at: Mutex<Option<Instant>>,
    // When it was last said that the endpoint fails, or that its receiver asked to wait: all its deliveries go through the table,
    // where probes are chosen. In microseconds since the epoch; 0 is not at all.
    held_at: AtomicI64,
    // When a delivery last failed.
    failed: Mutex<Option<Instant>>,
    // How long its receiver takes for an answer, in microseconds: an average in which each counts less with each that follows.
    answer_micros: AtomicU64,
    // When its receiver last gave one.
    answered: Mutex<Option<Instant>>,
}

impl Gate {
    /// Lets `slots` deliveries through at once.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            most_leases: 2 * slots,
            slots: Arc::new(Semaphore::new(slots)),
            leases: Arc::new(Semaphore::new(2 * slots)),
            queue: Queue::default(),
            backlogged: AtomicBool::new(false),
            overflowed_at: Mutex::new(None),
            held_at: AtomicI64::new(0),
            failed: Mutex::new(None),
            answer_micros: AtomicU64::new(0),
            answered: Mutex::new(None),
        }
    }

    /// Says that a delivery has failed just now.
    pub(crate) fn note_failure(&self) {
        *locked(&self.failed) = Some(Instant::now());
    }

    /// Whether one has failed a short time ago. A hint too.
    pub(crate) fn has_failed_lately(&self) -> bool {
        locked(&self.failed).is_some_and(|at| at.elapsed() < FAILURE_MEMORY)
    }

    /// Says whether due deliveries of this endpoint wait in the table. A hint: the table is searched anyway.
    pub(crate) fn set_backlogged(&self, backlogged: bool) {
        self.backlogged.store(backlogged, Ordering::Relaxed);
        if !backlogged {
            self.wake_waiter();
        }
    }

    /// Says that intake leaves one there which found no permit.
    pub(super) fn overflow(&self) {
        if !self.backlogged.swap(true, Ordering::Relaxed) {
            *locked(&self.overflowed_at) = Some(Instant::now());
        }
    }

    /// Says that the endpoint is held: its circuit is open, or its receiver asked to wait. A hint, like the other: the table
    /// has the truth, but only a moment after a receiver has asked.
    pub(crate) fn hold(&self) {
        let now = UnixMicros::now().get().max(1);
        self.held_at.store(now, Ordering::Relaxed);
    }

    /// Says that the endpoint was not held at this time. What was said of it since then stands.
    pub(crate) fn release(&self, known_at: UnixMicros) {
        let held_at = self.held_at.load(Ordering::Relaxed);
        if held_at != 0 && held_at <= known_at.get() {
            // Unless it is said to be held just now.
            let _ = self
                .held_at
                .compare_exchange(held_at, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// Whether it was said to be held.
    pub(crate) fn is_held(&self) -> bool {
        self.held_at.load(Ordering::Relaxed) != 0
    }

    /// Whether new events may start at once: nothing waits in the table, and the endpoint is not held.
    pub(crate) fn takes_new(&self) -> bool {
        !self.backlogged.load(Ordering::Relaxed) && !self.is_held()
    }

    /// Whether new events may start at once, or soon: what waits in the table came there a moment ago, and may soon be sent.
    pub(crate) fn takes_new_soon(&self) -> bool {
        let is_moments = || locked(&self.overflowed_at).is_some_and(|at| at.elapsed() < MOMENT);
        !self.is_held() && (self.takes_new() || is_moments())
    }

    /// Whether its receiver has as many deliveries as it may have, while the worker has so many permits `left`.
    pub(crate) fn is_full(&self, left: usize) -> bool {
        let free = self.slots.available_permits();
        let at_receiver = (self.most_leases / 2).saturating_sub(free);
        free == 0 || at_receiver >= left.max(1)
    }

    /// Says how long its receiver took for an answer.
    pub(crate) fn note_answer(&self, took: Duration) {
        let took = u64::try_from(took.as_micros())
            .unwrap_or(u64::MAX)
            .min(LONGEST_ANSWER);
        let average = self.answer_micros.load(Ordering::Relaxed);
        let next = average - average / ANSWERS + took / ANSWERS;
        self.answer_micros.store(next, Ordering::Relaxed);
        *locked(&self.answered) = Some(Instant::now());
    }

    /// Whether its receiver would take [`QUICK`] deliveries a second or more, and has given an answer a moment ago. If it is full,
    /// it will not be for long.
    pub(crate) fn is_quick(&self) -> bool {
        let slots = (self.most_leases / 2) as u64;
        let answers = locked(&self.answered).is_some_and(|at| at.elapsed() < SILENCE);
        answers && self.answer_micros.load(Ordering::Relaxed) * QUICK <= slots * 1_000_000
    }

    /// Whether fewer than half of its leases are free.
    pub(crate) fn is_short(&self) -> bool {
        2 * self.leases.available_permits() < self.most_leases
    }

    /// How many more deliveries the endpoint may have in flight.
    pub(crate) fn available(&self) -> usize {
        self.slots
            .available_permits()
            .min(self.leases.available_permits())
    }

    /// Puts one at the end of those that wait for permits.
    pub(crate) fn enter_queue(&self, waiter: &Waiter) {
        self.queue.enter(waiter);
        // A permit that was freed since it found none has woken nobody.
        if self.takes_new() {
            self.wake_waiter();
        }
    }

    /// Takes it out of those.
    pub(crate) fn leave_queue(&self, waiter: &Waiter) {
        self.queue.leave(waiter);
        self.wake_waiter();
    }

    // Each time that it is woken it asks the database, so not for every permit.
    pub(super) fn wake_waiter(&self) {
        if !self.queue.is_empty() && WAKING * self.available() >= self.most_leases {
            self.queue.wake();
        }
    }

    pub(super) fn in_use(&self) -> usize {
        self.most_leases - self.leases.available_permits()
    }
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
