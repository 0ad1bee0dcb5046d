//! Counts of what came of the frames that were published to a stream.

use std::sync::atomic::{AtomicU64, Ordering};

/// What the publishing task of a stream has met.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    stored: AtomicU64,
    missed: AtomicU64,
}

/// The numbers of a tally at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// Frames that were acknowledged.
    pub stored: u64,
    /// Frames whose acknowledgement did not come in time.
    pub missed: u64,
}

impl Tally {
    /// Says that a frame was acknowledged.
    pub(crate) fn note_stored(&self) {
        self.stored.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that no acknowledgement came in time.
    pub(crate) fn note_missed(&self) {
        self.missed.fetch_add(1, Ordering::Relaxed);
    }

    /// How many there were of each.
    pub(crate) fn counts(&self) -> Counts {
        Counts {
            stored: self.stored.load(Ordering::Relaxed),
            missed: self.missed.load(Ordering::Relaxed),
        }
    }
}
