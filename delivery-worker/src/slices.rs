//! Work cut into slices, between which other tasks have their turn. A worker has few threads, often one: whatever one
//! event multiplies, sending and storing the others' go on.

use tokio::task::yield_now;

/// Steps in a slice. A step is a byte of a payload that is read, or about ten nanoseconds of other work.
pub(crate) const SLICE: usize = 32 * 1_024;

/// The slices of one task.
#[derive(Debug)]
pub(crate) struct Slices {
    left: usize,
}

impl Slices {
    /// At the start of the first slice.
    pub(crate) fn new() -> Self {
        Self { left: SLICE }
    }

    /// Counts work that was done, and lets others have their turn at the end of a slice.
    pub(crate) async fn spend(&mut self, steps: usize) {
        if let Some(left) = self.left.checked_sub(steps) {
            self.left = left;
        } else {
            self.left = SLICE;
            yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn others_have_their_turn_after_a_slice_and_not_before() {
        let mut slices = Slices::new();
        assert!(slices.spend(SLICE).now_or_never().is_some());
        assert!(slices.spend(1).now_or_never().is_none());
        assert!(slices.spend(SLICE - 1).now_or_never().is_some());
    }
}
