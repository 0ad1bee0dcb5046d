//! Which events were sent, accepted and delivered, and when: what delivery's latency is computed from.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::client::request::FIRST_NUMBER;

/// Longest latency that is told from longer ones, in nanoseconds.
const LONGEST: u64 = 120_000_000_000;

/// An empty histogram of nanoseconds, right to three digits.
pub(crate) fn new_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LONGEST, 3)
        .expect("the bounds are in order and the precision is allowed")
}

/// Times in microseconds since `start`, by the number of the event; 0 is never.
#[derive(Debug)]
pub(crate) struct Ledger {
    start: Instant,
    first: u64,
    due: Vec<AtomicU32>,
    accepted: Vec<AtomicU32>,
    arrived: Vec<AtomicU32>,
    accepted_count: AtomicU64,
    arrived_count: AtomicU64,
    repeated: AtomicU64,
}

impl Ledger {
    /// For at most `events` events, numbered from `offset` on.
    pub(crate) fn new(offset: u64, events: usize) -> Self {
        let column = || (0..events).map(|_| AtomicU32::new(0)).collect();
        Self {
            start: Instant::now(),
            first: FIRST_NUMBER + offset,
            due: column(),
            accepted: column(),
            arrived: column(),
            accepted_count: AtomicU64::new(0),
            arrived_count: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
        }
    }

    /// The number of its first event.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// An event that was due to be sent at `due` was answered 202 just now.
    pub(crate) fn accepted(&self, number: u64, due: Instant) {
        let Some(index) = self.index(number) else { return };
        self.due[index].store(self.micros(due), Ordering::Relaxed);
        self.accepted[index].store(self.micros(Instant::now()), Ordering::Relaxed);
        self.accepted_count.fetch_add(1, Ordering::Relaxed);
    }

    /// An event's webhook arrived just now.
    pub(crate) fn arrived(&self, number: u64) {
        let Some(index) = self.index(number) else { return };
        let before = self.arrived[index].swap(self.micros(Instant::now()), Ordering::Relaxed);
        if before == 0 {
            self.arrived_count.fetch_add(1, Ordering::Relaxed);
        } else {
            self.repeated.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many were accepted, and how many have arrived.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let arrived = self.arrived_count.load(Ordering::Relaxed);
        (self.accepted_count.load(Ordering::Relaxed), arrived)
    }

    /// Whether it has a place for an event.
    pub(crate) fn has(&self, number: u64) -> bool {
        self.index(number).is_some()
    }

    /// How often one arrived that had arrived before.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    /// From the 202 to the webhook's arrival, of the events that `of` picks by their place in the ledger. A webhook
    /// that arrives before its 202 has been read counts as no time at all.
    pub(crate) fn accept_to_arrival(&self, of: impl Fn(usize) -> bool) -> Histogram<u64> {
        self.differences(&self.accepted, of)
    }

    /// From the moment at which the event was due to be sent to its webhook's arrival.
    pub(crate) fn due_to_arrival(&self, of: impl Fn(usize) -> bool) -> Histogram<u64> {
        self.differences(&self.due, of)
    }

    fn differences(&self, from: &[AtomicU32], of: impl Fn(usize) -> bool) -> Histogram<u64> {
        let mut histogram = new_histogram();
        for (index, (from, arrived)) in from.iter().zip(&self.arrived).enumerate() {
            let (from, arrived) = (from.load(Ordering::Relaxed), arrived.load(Ordering::Relaxed));
            if from > 0 && arrived > 0 && of(index) {
                let micros = u64::from(arrived.saturating_sub(from));
                histogram.saturating_record(micros * 1_000);
            }
        }
        histogram
    }

    fn index(&self, number: u64) -> Option<usize> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        (index < self.arrived.len()).then_some(index)
    }

    fn micros(&self, at: Instant) -> u32 {
        let since: Duration = at.saturating_duration_since(self.start);
        u32::try_from(since.as_micros()).unwrap_or(u32::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_counts_once_and_its_repeats_apart() {
        let ledger = Ledger::new(7, 2);
        let due = Instant::now();
        ledger.accepted(ledger.first(), due);
        ledger.arrived(ledger.first());
        ledger.arrived(ledger.first());
        ledger.arrived(ledger.first() + 2);
        assert_eq!((ledger.counts(), ledger.repeated()), ((1, 1), 1));
        assert_eq!(ledger.due_to_arrival(|_| true).len(), 1);
        assert_eq!(ledger.due_to_arrival(|index| index == 1).len(), 0);
    }
}
