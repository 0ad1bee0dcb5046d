//! How many replicas of a service run, and which of them this is, for parts of it that judge by their own share of the load or
//! share work out among all.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How much later than one that is alone a replica looks at the most. One that dies is counted for another minute, and looks at
/// nothing.
pub const LATER: Duration = Duration::from_secs(5);

/// How many replicas of this service run, as was last counted; clones are the same. One until somebody has counted.
#[derive(Clone, Debug)]
pub struct Replicas(Arc<Counted>);

#[derive(Debug)]
struct Counted {
    count: AtomicU32,
    place: AtomicU32,
}

impl Default for Replicas {
    fn default() -> Self {
        Self(Arc::new(Counted {
            count: AtomicU32::new(1),
            place: AtomicU32::new(0),
        }))
    }
}

impl Replicas {
    /// Says how many there are, this one included. None counts as one.
    pub fn set(&self, count: u32) {
        self.0.count.store(count.max(1), Ordering::Relaxed);
    }

    /// Says how many of the others come before this one, in an order that is the same for all.
    pub fn set_place(&self, others_before: u32) {
        self.0.place.store(others_before, Ordering::Relaxed);
    }

    /// How many there are, this one included: at least one.
    pub fn count(&self) -> u32 {
        self.0.count.load(Ordering::Relaxed)
    }

    /// How long this replica waits before it looks again at what all of them look at. One that is alone waits for `interval`.
    /// The more there are the longer each waits, so that all together look about as often, but at most [`LATER`] longer.
    pub fn pause(&self, interval: Duration) -> Duration {
        interval.saturating_mul(self.count()).min(interval + LATER)
    }

    /// Whether this is the one of them that something with this number belongs to. Replicas that have not counted the same may
    /// both say so, or none of them.
    pub fn owns(&self, number: u32) -> bool {
        number % self.count() == self.0.place.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_see_what_was_counted_last_and_this_replica_always_counts() {
        let replicas = Replicas::default();
        let seen = replicas.clone();
        assert_eq!(seen.count(), 1);
        replicas.set(3);
        assert_eq!(seen.count(), 3);
        replicas.set(0);
        assert_eq!(seen.count(), 1);
    }

    #[test]
    fn several_replicas_look_together_about_as_often_as_one_and_none_much_later() {
        const SECOND: Duration = Duration::from_secs(1);
        let pause = |count| {
            let replicas = Replicas::default();
            replicas.set(count);
            replicas.pause(SECOND * 2)
        };
        let pauses = [1, 2, 3, 4, u32::MAX].map(pause);
        assert_eq!(pauses, [2, 4, 6, 7, 7].map(Duration::from_secs));
    }

    #[test]
    fn each_number_belongs_to_one_replica_and_each_replica_has_its_share() {
        for count in 1..=5 {
            let replica = |place| {
                let replica = Replicas::default();
                replica.set(count);
                replica.set_place(place);
                replica
            };
            let all: Vec<_> = (0..count).map(replica).collect();
            for number in 0..20 {
                let owners = all.iter().filter(|replica| replica.owns(number));
                assert_eq!(owners.count(), 1, "number {number} of {count}");
            }
            for replica in &all {
                let owned = (0..4 * count).filter(|number| replica.owns(*number));
                assert_eq!(owned.count(), 4);
            }
        }
    }

    #[test]
    fn a_replica_that_is_alone_owns_everything() {
        let alone = Replicas::default();
        assert!((0..5).all(|number| alone.owns(number)));
    }
}
