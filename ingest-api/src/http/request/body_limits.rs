//! The limits that all request bodies share.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::http::error::ApiError;
use crate::http::request::room::{ByteRoom, Held};

/// Bodies that are decompressed at once. More would not finish sooner, and each may need a window of 8 MiB.
const DECODERS: usize = 4;

/// The limits that all request bodies share.
#[derive(Debug)]
pub(crate) struct BodyLimits {
    /// How long one body may take to arrive.
    pub timeout: Duration,
    /// Memory for bodies that arrive in pieces.
    room: ByteRoom,
    /// One permit for each body that is being decompressed.
    decoders: Semaphore,
}

impl BodyLimits {
    /// Lets bodies that arrive in pieces hold `buffer_bytes` together.
    pub(crate) fn new(timeout: Duration, buffer_bytes: u32) -> Self {
        Self {
            timeout,
            room: ByteRoom::of_bodies(buffer_bytes as usize),
            decoders: Semaphore::new(DECODERS),
        }
    }

    /// How much of the room is taken, from 0 to 1.
    pub(crate) fn used(&self) -> f64 {
        self.room.used()
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
    pub(crate) fn empty_body(&self) -> Held {
        Held::empty(&self.room)
    }
}
