//! Memory that requests share, with a bound: one room for the bodies on their way in, one for the large answers on their
//! way out.
//!
//! Without this bound, slow clients could hold one largest batch or page for every connection, or for every HTTP/2 stream.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::http::error::ApiError;

/// A number of bytes, of which each request holds a share.
#[derive(Clone, Debug)]
pub(crate) struct ByteRoom(Arc<Room>);

#[derive(Debug)]
struct Room {
    free: Semaphore,
    bytes: usize,
    /// Bytes that are held.
    taken: Gauge,
    refusals: Counter,
    /// The text of a refusal.
    full: &'static str,
}

impl ByteRoom {
    /// The room for request bodies.
    pub(crate) fn of_bodies(bytes: usize) -> Self {
        gauge!("penstock_body_buffer_max_bytes").set(to_float(bytes));
        Self(Arc::new(Room {
            free: Semaphore::new(bytes),
            bytes,
            taken: gauge!("penstock_body_buffer_bytes"),
            refusals: counter!("penstock_body_refusals_total"),
            full: "too many bytes of requests are on their way in",
        }))
    }

    /// The room for large answers.
    pub(crate) fn of_answers(bytes: usize) -> Self {
        gauge!("penstock_answer_buffer_max_bytes").set(to_float(bytes));
        Self(Arc::new(Room {
            free: Semaphore::new(bytes),
            bytes,
            taken: gauge!("penstock_answer_buffer_bytes"),
            refusals: counter!("penstock_answer_refusals_total"),
            full: "too many bytes of answers are on their way out",
        }))
    }

    /// A share of no bytes.
    pub(crate) fn share(&self) -> Share {
        Share {
            bytes: 0,
            room: self.0.clone(),
        }
    }

    /// A share of `bytes`, once they are free.
    ///
    /// # Errors
    /// 503 when they do not become free within `patience`.
    pub(crate) async fn reserve(&self, bytes: u32, patience: Duration) -> Result<Share, ApiError> {
        let mut share = self.share();
        let permit = timeout(patience, self.0.free.acquire_many(bytes)).await;
        share.bytes = self.0.take(permit.ok().and_then(Result::ok))?;
        Ok(share)
    }

    /// How much of it is held, from 0 to 1.
    pub(crate) fn used(&self) -> f64 {
        1.0 - to_float(self.0.free.available_permits()) / to_float(self.0.bytes)
    }

    /// Bytes that no share holds.
    #[cfg(test)]
    pub(crate) fn free(&self) -> usize {
        self.0.free.available_permits()
    }
}

impl Room {
    fn take(&self, permit: Option<SemaphorePermit<'_>>) -> Result<usize, ApiError> {
        let Some(permit) = permit else {
            self.refusals.increment(1);
            return Err(ApiError::Unavailable {
                reason: self.full,
                retry_after: 2,
            });
        };
        let bytes = permit.num_permits();
        self.taken.increment(to_float(bytes));
        // The share gives them back.
        permit.forget();
        Ok(bytes)
    }

    fn give_back(&self, bytes: usize) {
        self.taken.decrement(to_float(bytes));
        self.free.add_permits(bytes);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn to_float(bytes: usize) -> f64 {
    bytes as f64
}

/// Bytes of a room that one request holds. Dropping the share gives them back.
#[derive(Debug)]
pub(crate) struct Share {
    bytes: usize,
    room: Arc<Room>,
}

impl Share {
    /// Holds `bytes` from now on.
    ///
    /// # Errors
    /// 503 when that is more than before and the room has not enough bytes free. The share then stays as it was.
    pub(crate) fn resize(&mut self, bytes: usize) -> Result<(), ApiError> {
        if let Some(less) = self.bytes.checked_sub(bytes) {
            self.room.give_back(less);
        } else {
            let more = u32::try_from(bytes - self.bytes).ok();
            let permit = more.and_then(|more| self.room.free.try_acquire_many(more).ok());
            self.room.take(permit)?;
        }
        self.bytes = bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.give_back(self.bytes);
    }
}

/// A buffer with the share of a room for its whole capacity, however little of it is filled.
#[derive(Debug)]
pub(crate) struct Held {
    // Before the share, so that the memory is free before other requests may take it.
    bytes: Vec<u8>,
    share: Share,
}

impl Held {
    /// An empty buffer.
    pub(crate) fn empty(room: &ByteRoom) -> Self {
        Self {
            bytes: Vec::new(),
            share: room.share(),
        }
    }

    /// Makes a share as large as these bytes and keeps it with them.
    ///
    /// # Errors
    /// As [`Share::resize`].
    pub(crate) fn new(mut bytes: Vec<u8>, mut share: Share) -> Result<Self, ApiError> {
        bytes.shrink_to_fit();
        share.resize(bytes.capacity())?;
        Ok(Self { bytes, share })
    }

    /// The length of what was appended.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a piece to what has at most `most` bytes in the end. The buffer doubles as it grows and ignores the announced
    /// length, so that a client fills the room only by sending at least half as many bytes.
    ///
    /// # Errors
    /// 503 when other requests hold the memory.
    pub(crate) fn append(&mut self, piece: &[u8], most: usize) -> Result<(), ApiError> {
        let (length, capacity) = (self.bytes.len() + piece.len(), self.bytes.capacity());
        if length > capacity {
            let grown = length.max(most.min(2 * capacity));
            self.share.resize(grown)?;
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_holds_what_its_buffer_takes_and_gives_it_back() {
        let room = ByteRoom::of_bodies(1_000);
        let mut body = Held::empty(&room);
        for (piece, held) in [(100, 100), (1, 200), (99, 200), (1, 400), (500, 800), (100, 900)] {
            body.append(&vec![b'x'; piece], 900).unwrap();
            assert_eq!(body.bytes.capacity(), held);
            assert_eq!(room.free(), 1_000 - held);
        }
        assert_eq!((body.len(), body.as_ref()), (801, &[b'x'; 801][..]));
        drop(body);
        assert_eq!(room.free(), 1_000);
    }

    #[test]
    fn a_piece_for_which_others_leave_no_room_is_refused_and_takes_none() {
        let room = ByteRoom::of_bodies(1_000);
        let [mut first, mut second] = [Held::empty(&room), Held::empty(&room)];
        first.append(&[0; 600], 600).unwrap();
        second.append(&[0; 300], 1_000).unwrap();
        let refused = second.append(&[0; 300], 1_000).unwrap_err();
        insta::assert_snapshot!(refused.in_words(), @"503 too many bytes of requests are on their way in");
        assert_eq!(room.free(), 100);
        drop(first);
        second.append(&[0; 300], 1_000).unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_share_that_is_given_up_while_it_waits_takes_none() {
        let room = ByteRoom::of_answers(10);
        let held = room.reserve(6, Duration::from_secs(1)).await.unwrap();
        let waiting = room.reserve(6, Duration::from_secs(60));
        assert!(timeout(Duration::from_secs(1), waiting).await.is_err());
        drop(held);
        assert_eq!(room.free(), 10);
    }
}
