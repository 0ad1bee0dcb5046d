//! Up to which moment this replica knows every revocation, and what it may trust.
//!
//! There are two ways to hear of a revocation. In Postgres a replica looks at the changes of the last seconds. Over NATS
//! it knows what was signalled since its subscription came into force and before the last marker that it sent itself and
//! got back; it sends one when no look has come in time. Each gives a stretch of time of which it knows everything
//! ([`Span`]); stretches that touch are one.
//!
//! A key that was proven within the stretch may be used until [`FRESH`] after the stretch's end; and for as long after
//! its proof. So a replica that was frozen trusts nothing as it wakes, whichever of its tasks runs first, and one that
//! reaches neither NATS nor Postgres trusts nothing after that time. Each request compares three numbers for this.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;

use crate::keys::moment::Moment;

/// How long a stretch vouches for keys after its end. Within this time a revoked key is refused everywhere.
pub(crate) const FRESH: Duration = Duration::from_secs(1);

/// How long a request waits for a replica that has to catch up. It takes a round trip to NATS.
const PATIENCE: Duration = Duration::from_millis(500);

/// A stretch of time of which every revocation is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    /// Its beginning.
    pub from: Moment,
    /// Its end.
    pub until: Moment,
}

impl Span {
    fn join(self, other: Self) -> Option<Self> {
        let touch = self.from <= other.until && other.from <= self.until;
        touch.then(|| Self {
            from: self.from.min(other.from),
            until: self.until.max(other.until),
        })
    }

    fn is_fresh(self, now: Moment) -> bool {
        now < self.until + FRESH
    }
}

/// The stretch in force, and a later one that does not touch it yet.
#[derive(Clone, Copy, Debug)]
struct Spans {
    in_force: Span,
    later: Option<Span>,
}

impl Spans {
    /// Adds a stretch. The later one replaces the one in force when that is too old.
    fn add(&mut self, new: Span, now: Moment) {
        match self.in_force.join(new) {
            Some(joined) => self.in_force = joined,
            None if new.until > self.in_force.until => {
                let later = self.later.and_then(|later| later.join(new));
                self.later = Some(later.unwrap_or(new));
            }
            None => {}
        }
        let Some(later) = self.later else { return };
        if let Some(joined) = self.in_force.join(later) {
            (self.in_force, self.later) = (joined, None);
        } else if !self.in_force.is_fresh(now) {
            (self.in_force, self.later) = (later, None);
        }
    }
}

/// What one replica has heard.
#[derive(Debug)]
pub(crate) struct Hearing {
    spans: Mutex<Spans>,
    // The stretch in force, for every request to read.
    from: AtomicI64,
    until: AtomicI64,
    moved: Notify,
    wanted: Notify,
}

impl Default for Hearing {
    fn default() -> Self {
        Self::new()
    }
}

impl Hearing {
    /// A replica that has heard nothing yet.
    pub(crate) fn new() -> Self {
        let nothing = Span {
            from: Moment::START,
            until: Moment::START,
        };
        Self {
            spans: Mutex::new(Spans {
                in_force: nothing,
                later: None,
            }),
            from: AtomicI64::new(0),
            until: AtomicI64::new(0),
            moved: Notify::new(),
            wanted: Notify::new(),
        }
    }

    /// Every revocation of this stretch is known.
    pub(crate) fn add(&self, span: Span) {
        if span.until < span.from {
            return;
        }
        let mut spans = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        spans.add(span, Moment::now());
        // In this order, so that a reader of the new end reads the new beginning too.
        self.from.store(spans.in_force.from.to_nanos(), Ordering::Release);
        self.until
            .store(spans.in_force.until.to_nanos(), Ordering::Release);
        drop(spans);
        self.moved.notify_waiters();
    }

    /// Up to when every revocation is known.
    pub(crate) fn until(&self) -> Moment {
        Moment::from_nanos(self.until.load(Ordering::Acquire))
    }

    /// Waits until a request waits for this replica to catch up.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Whether a proof of `proved_at` still holds: every revocation since then is known, except those of the last second.
    pub(crate) fn vouches_for(&self, proved_at: Moment, now: Moment) -> bool {
        if now < proved_at + FRESH {
            return true;
        }
        let until = self.until();
        let from = Moment::from_nanos(self.from.load(Ordering::Acquire));
        proved_at >= from && now < until + FRESH
    }

    /// Waits, not for long, until this replica has caught up.
    pub(crate) async fn catch_up(&self) {
        let caught_up = async {
            loop {
                let moved = self.moved.notified();
                if Moment::now() < self.until() + FRESH {
                    return;
                }
                self.wanted.notify_one();
                moved.await;
            }
        };
        let _ = timeout(PATIENCE, caught_up).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::START + Duration::from_millis(millis)
    }

    fn span(from: u64, until: u64) -> Span {
        Span {
            from: at(from),
            until: at(until),
        }
    }

    fn after(spans: &[(Span, u64)]) -> Span {
        let mut all = Spans {
            in_force: span(0, 0),
            later: None,
        };
        for (span, now) in spans {
            all.add(*span, at(*now));
        }
        all.in_force
    }

    #[test]
    fn stretches_that_touch_are_one() {
        let heard = [(span(10_000, 11_000), 11_000), (span(10_000, 12_000), 12_000)];
        assert_eq!(after(&heard), span(10_000, 12_000));
        let looked = [heard[0], (span(7_000, 12_000), 12_000)];
        assert_eq!(after(&looked), span(7_000, 12_000));
    }

    #[test]
    fn a_gap_is_bridged_by_a_look_at_postgres() {
        let (before, reconnected) = ((span(10_000, 20_000), 20_000), (span(20_300, 20_500), 20_500));
        assert_eq!(after(&[before, reconnected]), before.0, "it is fresh still");
        let looked = (span(15_400, 20_400), 20_600);
        assert_eq!(after(&[before, reconnected, looked]), span(10_000, 20_500));
    }

    #[test]
    fn after_a_gap_that_nothing_bridges_only_what_follows_counts() {
        let before = (span(10_000, 20_000), 20_000);
        let (again, later) = ((span(20_300, 20_500), 20_500), (span(20_300, 21_100), 21_100));
        assert_eq!(after(&[before, again, later]), span(20_300, 21_100));
    }

    #[test]
    fn a_key_is_vouched_for_within_the_stretch_and_a_second_after_its_proof() {
        let hearing = Hearing::new();
        let now = Moment::now() + Duration::from_secs(100);
        assert!(hearing.vouches_for(now, now), "it has just been proven");
        assert!(!hearing.vouches_for(now - FRESH, now), "nothing was heard since");
        hearing.add(Span {
            from: now - Duration::from_secs(50),
            until: now,
        });
        assert!(hearing.vouches_for(now - Duration::from_secs(50), now));
        assert!(!hearing.vouches_for(now - Duration::from_secs(51), now));
        assert!(!hearing.vouches_for(now - Duration::from_secs(50), now + FRESH));
    }
}
