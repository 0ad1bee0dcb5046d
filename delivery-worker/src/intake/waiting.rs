//! Events that may begin [early](crate::intake::early) and found no permit. They wait a moment for one, also when older
//! deliveries have come into the table just now. Otherwise a short standstill of Postgres or of a receiver would send all that
//! follows through the table, where each costs three times as much, and at a high rate the worker would not come out of that
//! again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::permits::Permits;
use crate::intake::frame::Located;

/// How long events wait for a receiver that has taken as many as it may have.
const FOR_RECEIVER: Duration = Duration::from_millis(100);

/// How long they wait when the receiver would take them, and only the database keeps them back: results are not stored, or
/// older deliveries are to be taken out of the table first. In the table they would only make it more. Meanwhile other frames
/// of the stream may have to wait too.
const FOR_DATABASE: Duration = Duration::from_millis(250);

/// The events of one batch that wait, the oldest first.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    events: Vec<(Located<'a>, Arc<Endpoint>)>,
    since: Instant,
}

impl<'a> Waiting<'a> {
    /// These wait for permits of these endpoints from now on.
    pub(super) fn new(events: Vec<(Located<'a>, Arc<Endpoint>)>) -> Self {
        Self {
            events,
            since: Instant::now(),
        }
    }

    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Takes out as many as would find permits now.
    pub(super) fn take_next(&mut self, permits: &Permits) -> Vec<Located<'a>> {
        let mut free = HashMap::new();
        self.take(|endpoint| {
            let free = free
                .entry(endpoint.id)
                .or_insert_with(|| permits.free_for(&endpoint.gate));
            let is_one = *free > 0;
            *free = free.saturating_sub(1);
            is_one
        })
    }

    /// Puts those back which found none after all, before the newer ones.
    pub(super) fn put_back(&mut self, mut events: Vec<(Located<'a>, Arc<Endpoint>)>) {
        events.append(&mut self.events);
        self.events = events;
    }

    /// Takes out those that wait no longer: they are stored, and their deliveries are left due in the table.
    pub(super) fn take_impatient(&mut self) -> Vec<Located<'a>> {
        let waited = self.since.elapsed();
        self.take(|endpoint| {
            let patience = if endpoint.gate.waits_for_database() {
                FOR_DATABASE
            } else {
                FOR_RECEIVER
            };
            !endpoint.gate.takes_new_soon() || waited >= patience
        })
    }

    fn take(&mut self, mut is_taken: impl FnMut(&Endpoint) -> bool) -> Vec<Located<'a>> {
        self.events
            .extract_if(.., |(_, endpoint)| is_taken(endpoint))
            .map(|(located, _)| located)
            .collect()
    }
}
