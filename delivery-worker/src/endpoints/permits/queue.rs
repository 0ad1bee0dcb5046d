//! Who waits for an endpoint's permits: batches of new events, in the order in which they came.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// One that waits in queues. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiter(Arc<Notify>);

impl Waiter {
    /// Returns when it was woken since this returned last.
    pub(crate) async fn woken(&self) {
        self.0.notified().await;
    }

    fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// See the [module](self).
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiters: Mutex<VecDeque<Waiter>>,
    // A hint, so that nobody takes the lock of an empty queue.
    is_occupied: AtomicBool,
}

impl Queue {
    /// Puts one at the end that is not in it.
    pub(super) fn enter(&self, waiter: &Waiter) {
        let mut waiters = self.waiters();
        waiters.push_back(waiter.clone());
        self.is_occupied.store(true, Ordering::SeqCst);
    }

    /// Takes one out.
    pub(super) fn leave(&self, waiter: &Waiter) {
        let mut waiters = self.waiters();
        waiters.retain(|other| !other.is(waiter));
        self.is_occupied.store(!waiters.is_empty(), Ordering::SeqCst);
    }

    /// Whether nobody is before this one, which may be in it or not.
    pub(super) fn lets(&self, waiter: &Waiter) -> bool {
        self.is_empty() || self.waiters().front().is_none_or(|first| first.is(waiter))
    }

    /// Wakes the first one.
    pub(super) fn wake(&self) {
        if let Some(first) = self.waiters().front() {
            first.0.notify_one();
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        !self.is_occupied.load(Ordering::SeqCst)
    }

    fn waiters(&self) -> MutexGuard<'_, VecDeque<Waiter>> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
