//! Patient batches: they wait only for the answers of receivers to [early](crate::intake::early) attempts. However many they are,
//! the worker can take more. Other batches wait for permits, for Postgres or for the processor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many batches of a stream are patient. Clones share the count.
#[derive(Clone, Debug, Default)]
pub(crate) struct Patient(Arc<AtomicUsize>);

/// A patient batch, until this is dropped.
#[derive(Debug)]
pub(super) struct Waits<'a>(&'a AtomicUsize);

impl Patient {
    /// How many patient batches there are.
    pub(crate) fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts one more.
    pub(super) fn wait(&self) -> Waits<'_> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waits(&self.0)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_count_while_they_wait() {
        let patient = Patient::default();
        let batches = [patient.clone(), patient.clone()];
        let waits = [batches[0].wait(), batches[1].wait()];
        assert_eq!(patient.count(), 2);
        drop(waits);
        assert_eq!(patient.count(), 0);
    }
}
