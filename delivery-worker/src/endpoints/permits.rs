//! Permits: how much may be in flight, for each endpoint and in all. A permit is taken before a delivery is
//! leased, travels with it, and is freed by its drop, also when the task panics.
//!
//! A slot is held while the delivery is at the receiver, a lease until its result is recorded. An endpoint with `n` slots
//! has `2 * n` leases: at most `n` further deliveries may be answered but not yet recorded, however long the database takes.
//! A crash sends those twice.
//!
//! No endpoint gets more of the worker's permits than are left free. So an endpoint that has none always finds some,
//! however many slow receivers hold theirs (dynamic thresholds: Choudhury and Hahne, 1998).

mod gate;
mod queue;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shared::domain::id::EndpointId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

pub(crate) use self::gate::Gate;
use self::gate::locked;
pub(crate) use self::queue::Waiter;

/// The worker's share.
#[derive(Clone, Debug)]
pub(crate) struct Permits {
    most: usize,
    slots: Arc<Semaphore>,
    wakeup: Arc<Wakeup>,
}

/// Wakes the claimer.
#[derive(Debug, Default)]
struct Wakeup {
    notify: Notify,
    // An endpoint with free slots found no permit of the worker: the next one that comes free may be for it.
    starved: AtomicBool,
    // When something of these endpoints is due, as this worker has written it.
    notes: Mutex<HashMap<EndpointId, Instant>>,
}

impl Permits {
    /// Lets `slots` deliveries through at once.
    pub(crate) fn new(slots: usize) -> Self {
        Self {
            most: slots,
            slots: Arc::new(Semaphore::new(slots)),
            wakeup: Arc::default(),
        }
    }

    /// A permit for a delivery out of the table.
    pub(crate) fn try_acquire(&self, gate: &Arc<Gate>) -> Option<Permit> {
        if gate.available() == 0 {
            return None;
        }
        if !self.has_room_for(gate) {
            self.wakeup.starved.store(true, Ordering::SeqCst);
            // One that was freed in between has woken nobody.
            if !self.has_room_for(gate) {
                return None;
            }
        }
        self.take(gate)
    }

    /// A permit for a new event that is not stored yet and may ask again, when it is the turn of the one with which it waits.
    pub(crate) fn try_acquire_early(&self, gate: &Arc<Gate>, waiter: &Waiter) -> Option<Permit> {
        if self.free_for(gate, waiter) == 0 {
            return None;
        }
        self.take(gate)
    }

    /// How many new events for the endpoint would find a permit now.
    pub(crate) fn free_for(&self, gate: &Gate, waiter: &Waiter) -> usize {
        if gate.takes_new() && gate.queue.lets(waiter) && self.has_room_for(gate) {
            gate.available()
        } else {
            0
        }
    }

    fn take(&self, gate: &Arc<Gate>) -> Option<Permit> {
        let slot = gate.slots.clone().try_acquire_owned().ok()?;
        let lease = gate.leases.clone().try_acquire_owned().ok()?;
        let worker = self.slots.clone().try_acquire_owned().ok()?;
        Some(Permit {
            slot: Some(slot),
            lease: Some((lease, worker)),
            gate: gate.clone(),
            wakeup: self.wakeup.clone(),
        })
    }

    fn has_room_for(&self, gate: &Gate) -> bool {
        gate.in_use() < self.available()
    }

    /// A permit for a new event, which must not overtake older ones.
    pub(crate) fn try_acquire_for_new(&self, gate: &Arc<Gate>) -> Option<Permit> {
        let permit = if gate.takes_new() {
            self.try_acquire(gate)
        } else {
            None
        };
        if permit.is_none() {
            gate.overflow();
        }
        permit
    }

    /// Says that a due delivery of the endpoint is in the table. It found no permit, and before it was written the claimer
    /// may have searched the table and let newer events pass.
    pub(crate) fn note_waiting(&self, id: EndpointId, gate: &Gate) {
        self.note_due(id, Duration::ZERO);
        gate.overflow();
        if gate.available() > 0 && !gate.is_held() {
            self.wake_claimer();
        }
    }

    /// Returns when a permit was freed that a backlogged endpoint can use, or after [`Permits::wake_claimer`].
    pub(crate) async fn freed(&self) {
        self.wakeup.notify.notified().await;
    }

    /// Makes the claimer look at the endpoint's rows after this time.
    pub(crate) fn note_due(&self, id: EndpointId, after: Duration) {
        let now = Instant::now();
        let due = now.checked_add(after).unwrap_or(now);
        let mut notes = locked(&self.wakeup.notes);
        let earliest = notes.entry(id).or_insert(due);
        *earliest = due.min(*earliest);
    }

    /// What was noted since this was last called.
    pub(crate) fn take_notes(&self) -> HashMap<EndpointId, Instant> {
        let mut notes = locked(&self.wakeup.notes);
        std::mem::take(&mut notes)
    }

    /// Makes the claimer search the table at once.
    pub(crate) fn wake_claimer(&self) {
        self.wakeup.notify.notify_one();
    }

    /// How many more deliveries may be started.
    pub(crate) fn available(&self) -> usize {
        self.slots.available_permits()
    }

    /// How many deliveries may be started and not be recorded.
    pub(crate) fn most(&self) -> usize {
        self.most
    }

    /// How many deliveries were started and are not recorded yet.
    pub(crate) fn in_use(&self) -> usize {
        self.most - self.available()
    }
}

/// The right to have one delivery in flight.
#[derive(Debug)]
pub(crate) struct Permit {
    slot: Option<OwnedSemaphorePermit>,
    lease: Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)>,
    gate: Arc<Gate>,
    wakeup: Arc<Wakeup>,
}

impl Permit {
    /// Frees the endpoint's slot: the receiver has answered. The lease is kept, so that the results that wait to be
    /// recorded stay bounded.
    pub(crate) fn leave_endpoint(&mut self) {
        self.slot = None;
        self.wake(false);
    }

    /// Wakes who may use what was freed: the claimer when deliveries wait in the table or some endpoint is `starved`, otherwise new
    /// events that wait.
    fn wake(&self, starved: bool) {
        if starved || self.gate.backlogged.load(Ordering::Relaxed) {
            self.wakeup.notify.notify_one();
        } else {
            self.gate.wake_waiter();
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        // Freed first, so that whoever is woken finds it.
        (self.slot, self.lease) = (None, None);
        let starved = self.wakeup.starved.swap(false, Ordering::SeqCst);
        self.wake(starved);
    }
}

#[cfg(test)]
mod tests;
