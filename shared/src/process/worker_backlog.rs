//! The signal by which workers are scaled: how much waits for them, and for how long, in the streams and in the table
//! together. Each half is read on its own, by every replica of either service, so the signal is there without any worker.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::process::telemetry::readings::{LIFETIME, Readings};

/// A part of what waits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// Deliveries, or events that have none yet.
    pub deliveries: f64,
    /// How long the oldest of them has waited.
    pub age: Duration,
}

/// What waits for workers; clones are the same. It is shown while both halves are known.
#[derive(Clone, Debug)]
pub struct WorkerBacklog {
    readings: Readings,
    halves: Arc<Mutex<Halves>>,
}

#[derive(Debug, Default)]
struct Halves {
    streams: Option<(Part, Instant)>,
    table: Option<(Part, Instant)>,
}

impl WorkerBacklog {
    /// Shown among these readings.
    pub fn new(readings: Readings) -> Self {
        Self {
            readings,
            halves: Arc::default(),
        }
    }

    /// Says what waits in the streams.
    pub fn set_streams(&self, part: Part) {
        self.change(|halves, now| halves.streams = Some((part, now)));
    }

    /// Says which deliveries in the table nothing but the workers keeps back.
    pub fn set_table(&self, part: Part) {
        self.change(|halves, now| halves.table = Some((part, now)));
    }

    fn change(&self, change: impl FnOnce(&mut Halves, Instant)) {
        let now = Instant::now();
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut halves, now);
        if let Some(whole) = halves.whole(now) {
            self.readings
                .set("penstock_worker_backlog_deliveries", whole.deliveries);
            self.readings
                .set("penstock_worker_backlog_age_seconds", whole.age.as_secs_f64());
        }
    }
}

impl Halves {
    /// Both together; None when one is not known, or was read too long ago.
    fn whole(&self, now: Instant) -> Option<Part> {
        let young = |half: Option<(Part, Instant)>| {
            half.filter(|(_, at)| now.saturating_duration_since(*at) < LIFETIME)
        };
        let ((streams, _), (table, _)) = young(self.streams).zip(young(self.table))?;
        Some(Part {
            deliveries: streams.deliveries + table.deliveries,
            age: streams.age.max(table.age),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(deliveries: f64, seconds: u64) -> Part {
        Part {
            deliveries,
            age: Duration::from_secs(seconds),
        }
    }

    #[test]
    fn it_is_known_while_both_halves_are() {
        let now = Instant::now();
        let mut halves = Halves::default();
        assert_eq!(halves.whole(now), None);
        halves.streams = Some((part(3.0, 7), now));
        assert_eq!(halves.whole(now), None);
        halves.table = Some((part(2.0, 9), now));
        assert_eq!(halves.whole(now), Some(part(5.0, 9)));
        halves.table = Some((part(2.0, 9), now + LIFETIME / 2));
        assert_eq!(
            halves.whole(now + LIFETIME),
            None,
            "the streams were read too long ago"
        );
    }
}
