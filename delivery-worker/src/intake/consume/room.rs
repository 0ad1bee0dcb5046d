//! Room for the batches that are being stored. All streams of a worker share it, and have one batch each in any case.

use std::sync::Arc;

use tokio::sync::watch;

/// A stream that has a batch takes no other one while this many bytes of frames, or more, are being stored or wait for the answers
/// to early attempts.
const MAX_BYTES: usize = 4 << 20;

/// What is left for more batches. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct BatchRoom(Arc<watch::Sender<usize>>);

/// The place that a batch takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    room: BatchRoom,
    bytes: usize,
}

impl BatchRoom {
    /// Waits until a stream may take another batch, however large it is. It has `batches` already; without any it waits for nothing,
    /// so that no stream stands still because of the others. May be dropped while it waits.
    pub(crate) async fn free(&self, batches: usize) {
        let mut taken = self.0.subscribe();
        // It fails when the sender is gone, which `self` holds.
        let _ = taken.wait_for(|bytes| batches == 0 || *bytes < MAX_BYTES).await;
    }

    /// Takes the place of a batch, without waiting.
    pub(crate) fn take(&self, bytes: usize) -> Place {
        self.0.send_modify(|taken| *taken += bytes);
        let room = self.clone();
        Place { room, bytes }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.0.send_modify(|taken| *taken -= self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_batch_waits_while_others_take_all_room() {
        let room = BatchRoom::default();
        let small = room.take(1);
        let large = room.clone().take(MAX_BYTES);
        drop(small);
        assert!(room.free(1).now_or_never().is_none());
        let waiting = room.free(1);
        tokio::pin!(waiting);
        assert!((&mut waiting).now_or_never().is_none());
        drop(large);
        waiting.await;
    }

    #[tokio::test]
    async fn a_stream_without_a_batch_waits_for_no_other_stream() {
        let room = BatchRoom::default();
        let _of_another = room.take(MAX_BYTES);
        let _own = room.take(1);
        assert!(room.free(0).now_or_never().is_some());
        assert!(room.free(1).now_or_never().is_none());
    }
}
