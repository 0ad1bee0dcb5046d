//! How long a request body may take to arrive, and the memory that all bodies share.
//!
//! Without this bound, slow senders could hold one largest batch for every connection, or for every HTTP/2 stream.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Gauge, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::http::error::ApiError;

/// Bodies that are decompressed at once. More would not finish sooner, and each may need a window of 8 MiB.
const DECODERS: usize = 4;

/// The limits that all bodies share.
#[derive(Debug)]
pub(crate) struct BodyLimits {
    /// How long one body may take to arrive.
    pub timeout: Duration,
    /// Bytes that are free for bodies that arrive in pieces.
    room: Arc<Semaphore>,
    /// Bytes that such bodies hold now.
    taken: Gauge,
    /// One permit for each body that is being decompressed.
    decoders: Semaphore,
}

impl BodyLimits {
    /// Lets bodies that arrive in pieces hold `buffer_bytes` together.
    pub(crate) fn new(timeout: Duration, buffer_bytes: u32) -> Self {
        Self {
            timeout,
            room: Arc::new(Semaphore::new(buffer_bytes as usize)),
            taken: gauge!("body_buffer_bytes"),
            decoders: Semaphore::new(DECODERS),
        }
    }

    /// Waits for the permit to decompress a body.
    ///
    /// # Errors
    /// 503 when it does not come in time.
    pub(crate) async fn decoder(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        match timeout(self.timeout, self.decoders.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ApiError::Unavailable {
                reason: "too many bodies are being decompressed",
                retry_after: 2,
            }),
        }
    }

    /// A body of which no byte has arrived yet.
    pub(crate) fn empty_body(&self) -> Gathered {
        Gathered {
            bytes: Vec::new(),
            held: None,
            room: self.room.clone(),
            taken: self.taken.clone(),
        }
    }
}

/// The bytes of one body that have arrived, in one buffer. Dropping it frees its share of the memory.
#[derive(Debug)]
pub(crate) struct Gathered {
    bytes: Vec<u8>,
    /// Permits for the buffer's whole capacity, however little of it is filled.
    held: Option<OwnedSemaphorePermit>,
    room: Arc<Semaphore>,
    taken: Gauge,
}

impl Gathered {
    /// Bytes that have arrived.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a piece to a body of at most `most` bytes. The buffer doubles as it grows and ignores the announced length, so
    /// that filling the memory takes sending at least half as many bytes.
    ///
    /// # Errors
    /// 503 when other bodies hold the memory.
    pub(crate) fn append(&mut self, piece: &[u8], most: usize) -> Result<(), ApiError> {
        let (length, capacity) = (self.bytes.len() + piece.len(), self.bytes.capacity());
        if length > capacity {
            let grown = length.max(most.min(2 * capacity));
            self.hold(grown - capacity)?;
            self.bytes.reserve_exact(grown - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        Ok(())
    }

    fn hold(&mut self, more: usize) -> Result<(), ApiError> {
        let more = u32::try_from(more).ok();
        let Some(more) = more.and_then(|more| self.room.clone().try_acquire_many_owned(more).ok()) else {
            metrics::counter!("body_refusals_total").increment(1);
            return Err(ApiError::Unavailable {
                reason: "too many bytes of requests are on their way in",
                retry_after: 2,
            });
        };
        self.taken.increment(to_float(more.num_permits()));
        match &mut self.held {
            Some(held) => held.merge(more),
            held @ None => *held = Some(more),
        }
        Ok(())
    }
}

impl Drop for Gathered {
    fn drop(&mut self) {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        self.taken.decrement(to_float(held));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn to_float(bytes: usize) -> f64 {
    bytes as f64
}

impl AsRef<[u8]> for Gathered {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(bytes: u32) -> BodyLimits {
        BodyLimits::new(Duration::from_secs(1), bytes)
    }

    #[test]
    fn a_body_holds_what_its_buffer_takes_and_gives_it_back() {
        let limits = limits(1_000);
        let mut body = limits.empty_body();
        for (piece, held) in [(100, 100), (1, 200), (99, 200), (1, 400), (500, 800), (100, 900)] {
            body.append(&vec![b'x'; piece], 900).unwrap();
            assert_eq!(body.bytes.capacity(), held);
            assert_eq!(limits.room.available_permits(), 1_000 - held);
        }
        assert_eq!((body.len(), body.as_ref()), (801, &[b'x'; 801][..]));
        drop(body);
        assert_eq!(limits.room.available_permits(), 1_000);
    }

    #[test]
    fn a_piece_for_which_others_leave_no_room_is_refused_and_takes_none() {
        let limits = limits(1_000);
        let [mut first, mut second] = [limits.empty_body(), limits.empty_body()];
        first.append(&[0; 600], 600).unwrap();
        second.append(&[0; 300], 1_000).unwrap();
        let refused = second.append(&[0; 300], 1_000).unwrap_err();
        insta::assert_snapshot!(refused.in_words(), @"503 too many bytes of requests are on their way in");
        assert_eq!(limits.room.available_permits(), 100);
        drop(first);
        second.append(&[0; 300], 1_000).unwrap();
    }
}
