//! How many replicas of a service run, for parts of it that judge by their own share of the load.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// How many replicas of this service run, as was last counted; clones are the same. One until somebody has counted.
#[derive(Clone, Debug)]
pub struct Replicas(Arc<AtomicU32>);

impl Default for Replicas {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Replicas {
    /// Says how many there are, this one included. None counts as one.
    pub fn set(&self, count: u32) {
        self.0.store(count.max(1), Ordering::Relaxed);
    }

    /// How many there are, this one included: at least one.
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
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
}
