//! What request bodies may take while they come: time, and memory, which all of them share.
//!
//! Without a bound of their own, bodies that come slowly would take as many times the largest batch as there are
//! connections, or streams in these.

use std::sync::Arc;
use std::time::Duration;

use metrics::{Gauge, gauge};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::http::error::ApiError;

/// Bodies that are decompressed at a time. More would not be done sooner, and each may take a window of 8 MiB.
const DECODERS: usize = 4;

/// What bodies may take.
#[derive(Debug)]
pub struct BodyLimits {
    /// How long one may take to come.
    pub timeout: Duration,
    /// Bytes that are left for the bodies that come in pieces.
    room: Arc<Semaphore>,
    /// Bytes that these hold.
    taken: Gauge,
    /// Turns of those that are decompressed: each holds a decoder with its window.
    decoders: Semaphore,
}

impl BodyLimits {
    /// Bodies that come in pieces may hold `buffer_bytes` together.
    pub fn new(timeout: Duration, buffer_bytes: u32) -> Self {
        Self {
            timeout,
            room: Arc::new(Semaphore::new(buffer_bytes as usize)),
            taken: gauge!("body_buffer_bytes"),
            decoders: Semaphore::new(DECODERS),
        }
    }

    /// A turn to decompress a body.
    ///
    /// # Errors
    /// 503 when none comes in time.
    pub async fn decoder(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        match timeout(self.timeout, self.decoders.acquire()).await {
            Ok(Ok(turn)) => Ok(turn),
            _ => Err(ApiError::Unavailable {
                reason: "too many bodies are being decompressed",
                retry_after: 2,
            }),
        }
    }

    /// A body of which nothing has come.
    pub fn empty_body(&self) -> Gathered {
        Gathered {
            bytes: Vec::new(),
            held: None,
            room: self.room.clone(),
            taken: self.taken.clone(),
        }
    }
}

/// The pieces of one body that have come, in one buffer. Its memory is given back when it is dropped.
#[derive(Debug)]
pub struct Gathered {
    bytes: Vec<u8>,
    /// The buffer's capacity: what it takes, however little is in it.
    held: Option<OwnedSemaphorePermit>,
    room: Arc<Semaphore>,
    taken: Gauge,
}

impl Gathered {
    /// How much has come.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds a piece to a body of at most `most` bytes. The buffer doubles as it grows and is not made for what is only
    /// announced: who wants to fill the memory has to send at least half as much.
    ///
    /// # Errors
    /// 503 when the other bodies leave no room for it.
    pub fn append(&mut self, piece: &[u8], most: usize) -> Result<(), ApiError> {
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
