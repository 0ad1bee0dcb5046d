//! Large answers, which together take a bounded amount of memory.

use std::fmt;
use std::time::Duration;

use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;

use crate::http::error::ApiError;
use crate::http::request::room::{ByteRoom, Held, Share};

/// Most bytes that all large answers hold together.
const ROOM_BYTES: usize = 64 * 1024 * 1024;

/// Bytes that are reserved for an answer before its size is known: 4 MiB of payloads in base64, and the JSON around them.
const PAGE_BYTES: u32 = 8 * 1024 * 1024;

/// How long a request waits for room. Most answers turn out to be small, so that there is room again soon.
const PATIENCE: Duration = Duration::from_secs(5);

/// The memory that large answers share. An answer holds its share until its client has read it.
#[derive(Debug)]
pub(crate) struct AnswerRoom(ByteRoom);

impl AnswerRoom {
    /// A room of which nothing is taken.
    pub(crate) fn new() -> Self {
        Self(ByteRoom::of_answers(ROOM_BYTES))
    }

    /// Holds a share for an answer that may be large. A handler asks for it before it asks the database for the data.
    ///
    /// # Errors
    /// 503 when other answers hold the memory for too long.
    pub(crate) async fn reserve(&self) -> Result<Share, ApiError> {
        self.0.reserve(PAGE_BYTES, PATIENCE).await
    }
}

/// A JSON answer that holds its share of the room until it is sent or given up.
pub(crate) struct LargeJson(Bytes);

impl LargeJson {
    /// Writes `value` as JSON, and makes the reserved share as large as the text.
    ///
    /// # Errors
    /// 503 when the text is larger than the share and the room has not enough bytes free.
    pub(crate) fn new(value: impl Serialize, share: Share) -> Result<Self, ApiError> {
        let bytes = serde_json::to_vec(&value).map_err(|error| ApiError::Internal(error.into()))?;
        drop(value);
        let held = Held::new(bytes, share)?;
        Ok(Self(Bytes::from_owner(held)))
    }
}

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
        let left = || ROOM_BYTES - room.0.free();
        let reserved = room.reserve().await.unwrap();
        assert_eq!(left(), PAGE_BYTES as usize);
        let small = LargeJson::new("x", reserved).unwrap();
        assert_eq!((&small.0[..], left()), (&b"\"x\""[..], 3));
        let text = "x".repeat(PAGE_BYTES as usize);
        let large = LargeJson::new(&text, room.reserve().await.unwrap()).unwrap();
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
        let refused = LargeJson::new(text, waiting.unwrap()).unwrap_err();
        insta::assert_snapshot!(refused.in_words(), @"503 too many bytes of answers are on their way out");
        drop(held);
        assert_eq!(room.0.free(), ROOM_BYTES);
    }
}
