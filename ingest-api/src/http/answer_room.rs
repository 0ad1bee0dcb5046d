//! The memory that large answers share. An answer holds its part until its client has read it.
//!
//! Without this bound, slow readers could hold one largest page for every connection, or for every HTTP/2 stream.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use metrics::{Gauge, gauge};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::http::error::ApiError;

/// Most bytes that all large answers hold together.
const ROOM_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that are reserved for an answer before its size is known: 4 MiB of payloads in base64, and the JSON around them.
const PAGE_BYTES: u32 = 8 * 1024 * 1024;

/// How long a request waits for room. Most answers turn out to be small, so that there is room again soon.
const PATIENCE: Duration = Duration::from_secs(5);

/// What large answers may take.
#[derive(Debug)]
pub(crate) struct AnswerRoom {
    room: Arc<Semaphore>,
    /// Bytes that are held.
    taken: Gauge,
}

impl AnswerRoom {
    /// Nothing is taken.
    pub(crate) fn new() -> Self {
        Self {
            room: Arc::new(Semaphore::new(ROOM_BYTES)),
            taken: gauge!("answer_buffer_bytes"),
        }
    }

    /// Holds room for an answer that may be large. To be asked for before what it is made of is.
    ///
    /// # Errors
    /// 503 when those that are on their way out leave none for long.
    pub(crate) async fn reserve(&self) -> Result<Reserved, ApiError> {
        let room = self.room.clone().acquire_many_owned(PAGE_BYTES);
        let held = timeout(PATIENCE, room).await.ok().and_then(Result::ok);
        let held = held.ok_or_else(refused)?;
        self.taken.increment(to_float(held.num_permits()));
        Ok(Reserved {
            held,
            room: self.room.clone(),
            taken: self.taken.clone(),
        })
    }
}

fn refused() -> ApiError {
    metrics::counter!("answer_refusals_total").increment(1);
    ApiError::Unavailable {
        reason: "too many bytes of answers are on their way out",
        retry_after: 2,
    }
}

/// Room for one answer. It is given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Reserved {
    held: OwnedSemaphorePermit,
    room: Arc<Semaphore>,
    taken: Gauge,
}

impl Reserved {
    /// The answer, which from now on holds what it takes.
    ///
    /// # Errors
    /// 503 when it is larger than what was held and there is no room for the rest.
    pub(crate) fn json(mut self, value: impl Serialize) -> Result<LargeJson, ApiError> {
        let mut bytes = serde_json::to_vec(&value).map_err(|error| ApiError::Internal(error.into()))?;
        drop(value);
        bytes.shrink_to_fit();
        self.resize(bytes.capacity())?;
        Ok(LargeJson(Bytes::from_owner(Held { bytes, _room: self })))
    }

    fn resize(&mut self, bytes: usize) -> Result<(), ApiError> {
        let held = self.held.num_permits();
        if let Some(less) = held.checked_sub(bytes) {
            drop(self.held.split(less));
            self.taken.decrement(to_float(less));
            return Ok(());
        }
        let more = u32::try_from(bytes - held).ok();
        let more = more.and_then(|more| self.room.clone().try_acquire_many_owned(more).ok());
        let more = more.ok_or_else(refused)?;
        self.taken.increment(to_float(more.num_permits()));
        self.held.merge(more);
        Ok(())
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.taken.decrement(to_float(self.held.num_permits()));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn to_float(bytes: usize) -> f64 {
    bytes as f64
}

/// The bytes of an answer, with the room that they take.
struct Held {
    bytes: Vec<u8>,
    _room: Reserved,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// A JSON answer that holds its room until it is sent or given up.
pub(crate) struct LargeJson(Bytes);

// Without the bytes: they are customers' data.
impl fmt::Debug for LargeJson {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "LargeJson({} bytes)", self.0.len())
    }
}

impl IntoResponse for LargeJson {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static(shared::domain::event::JSON);
        ([(CONTENT_TYPE, json)], self.0).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_answer_holds_what_it_takes_until_it_is_gone() {
        let room = AnswerRoom::new();
        let left = || ROOM_BYTES - room.room.available_permits();
        let reserved = room.reserve().await.unwrap();
        assert_eq!(left(), PAGE_BYTES as usize);
        let small = reserved.json("x").unwrap();
        assert_eq!((&small.0[..], left()), (&b"\"x\""[..], 3));
        let text = "x".repeat(PAGE_BYTES as usize);
        let large = room.reserve().await.unwrap().json(&text).unwrap();
        assert_eq!(left(), 3 + text.len() + 2);
        let rest = large.0.slice(..1);
        drop((small, large));
        assert_eq!(left(), text.len() + 2, "a part keeps the whole");
        drop(rest);
        assert_eq!(left(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_for_which_others_leave_no_room_waits_for_it_and_is_refused() {
        let room = AnswerRoom::new();
        let mut held = Vec::new();
        for _ in 0..ROOM_BYTES / PAGE_BYTES as usize {
            held.push(room.reserve().await.unwrap());
        }
        let refused = room.reserve().await.unwrap_err();
        insta::assert_snapshot!(refused.in_words(), @"503 too many bytes of answers are on their way out");
        let last = held.pop().unwrap();
        let (waiting, ()) = tokio::join!(room.reserve(), async { drop(last) });
        let text = "x".repeat(PAGE_BYTES as usize);
        let refused = waiting.unwrap().json(text).unwrap_err();
        insta::assert_snapshot!(refused.in_words(), @"503 too many bytes of answers are on their way out");
        drop(held);
        assert_eq!(room.room.available_permits(), ROOM_BYTES);
    }
}
