//! Events that may begin [early](crate::intake::early) and found no permit. They wait a moment for one, also when older
//! deliveries have come into the table just now. Otherwise a short standstill of Postgres or of a receiver would send all later
//! events through the table. There each costs three times as much, and at a high rate the worker would never catch up.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use shared::domain::id::EndpointId;
use tokio::time::Instant;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::{Permits, Waiter};
use crate::intake::frame::Located;

/// How long events wait for a receiver that already has as many deliveries as it may have.
const FOR_RECEIVER: Duration = Duration::from_millis(100);

/// How long they wait when the receiver would take them now or very soon, and only this worker or the database keeps them back:
/// results are not stored, other events are first, or older deliveries are still in the table. In the table they would only add
/// to the work. Meanwhile other frames of the stream may have to wait too.
const FOR_WORKER: Duration = Duration::from_millis(500);

/// How often to look whether events that have begun can be stored before the others, and how often while some wait.
const LOOK: Duration = Duration::from_millis(10);
const LOOK_IN_HURRY: Duration = Duration::from_millis(3);

/// How long permits gather after the first one has woken those that wait: permits come free together.
const GATHERING: Duration = Duration::from_millis(1);

/// The events of one batch that wait, the oldest first. They get permits before those of later batches.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    events: Vec<(Located<'a>, Arc<Endpoint>)>,
    since: Instant,
    waiter: Waiter,
    /// The endpoints in whose queues the waiter is.
    queues: HashMap<EndpointId, Arc<Endpoint>>,
}

impl<'a> Waiting<'a> {
    /// No event waits yet. All that are added count as waiting since now.
    pub(super) fn new() -> Self {
        Self {
            events: Vec::new(),
            since: Instant::now(),
            waiter: Waiter::default(),
            queues: HashMap::new(),
        }
    }

    /// Whether no event waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// What is woken when events may find permits.
    pub(super) fn waiter(&self) -> &Waiter {
        &self.waiter
    }

    /// Returns when events may find permits.
    pub(super) async fn woken(&self) {
        self.waiter.woken().await;
        tokio::time::sleep(GATHERING).await;
    }

    /// How long until the next look whether events that have begun can be stored.
    pub(super) fn look_after(&self) -> Duration {
        if self.is_empty() { LOOK } else { LOOK_IN_HURRY }
    }

    /// Takes out the events that would find permits now.
    pub(super) fn take_next(&mut self, permits: &Permits) -> Vec<Located<'a>> {
        let (mut free, waiter) = (HashMap::new(), self.waiter.clone());
        self.take(|endpoint| {
            let free = free
                .entry(endpoint.id)
                .or_insert_with(|| permits.free_for(&endpoint.gate, &waiter));
            let finds_one = *free > 0;
            *free = free.saturating_sub(1);
            finds_one
        })
    }

    /// Adds events that found no permits of these endpoints, before the newer ones.
    pub(super) fn add(&mut self, mut events: Vec<(Located<'a>, Arc<Endpoint>)>) {
        events.append(&mut self.events);
        self.events = events;
        self.line_up();
    }

    /// Takes out events that wait no longer: they are stored, and their deliveries are left due in the table.
    pub(super) fn take_impatient(&mut self) -> Vec<Located<'a>> {
        let waited = self.since.elapsed();
        let impatient = self.take(|endpoint| {
            let patience = if endpoint.gate.is_full() && !endpoint.gate.is_quick() {
                FOR_RECEIVER
            } else {
                FOR_WORKER
            };
            !endpoint.gate.takes_new_soon() || waited >= patience
        });
        self.line_up();
        impatient
    }

    /// Takes out the events whose endpoints `is_taken` picks.
    fn take(&mut self, mut is_taken: impl FnMut(&Endpoint) -> bool) -> Vec<Located<'a>> {
        self.events
            .extract_if(.., |(_, endpoint)| is_taken(endpoint))
            .map(|(located, _)| located)
            .collect()
    }

    /// Enters the queues of the endpoints for which events wait, and leaves the others.
    fn line_up(&mut self) {
        let Self {
            events,
            waiter,
            queues,
            ..
        } = self;
        let mut left = std::mem::take(queues);
        for (_, endpoint) in events {
            let Entry::Vacant(queue) = queues.entry(endpoint.id) else {
                continue;
            };
            if left.remove(&endpoint.id).is_none() {
                endpoint.gate.enter_queue(waiter);
            }
            queue.insert(endpoint.clone());
        }
        for endpoint in left.into_values() {
            endpoint.gate.leave_queue(waiter);
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        for endpoint in self.queues.values() {
            endpoint.gate.leave_queue(&self.waiter);
        }
    }
}
