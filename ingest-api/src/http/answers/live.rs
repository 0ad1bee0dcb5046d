//! Answers that go on for a while, as server-sent events.

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use utoipa::ToSchema;

use crate::domain::form::field_errors::check_range;
use crate::http::admission::admitted::Admitted;
use crate::http::error::ApiError;

/// The media type.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// Tells a proxy that it must not wait for more of an answer before it passes on what it has.
const NO_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How long an answer goes on: the server gives no client more time than two minutes to take one. With zero it ends after what
/// is there already.
const SECONDS: RangeInclusive<u32> = 0..=90;

/// How often it is looked whether the key of the request is still valid.
const CHECK: Duration = Duration::from_secs(1);

/// An answer in which nothing happens tells for this long that it is there.
const QUIET: Duration = Duration::from_secs(10);

/// As many listen as may.
pub(crate) const CROWDED: ApiError = ApiError::Unavailable {
    reason: "as many listen as may: of this tenant, of this organisation, or of all",
    retry_after: 10,
};

/// One server-sent event, as the document describes it.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "its form alone is used")]
pub(crate) struct LiveEvent {
    /// Where the answer to a later request goes on, as its `Last-Event-ID`.
    #[schema(required = false, value_type = String)]
    id: Option<String>,
    /// What it is.
    event: String,
    /// JSON.
    data: String,
}

/// The text of a server-sent event. `data` is JSON, which has no line breaks.
pub(crate) fn message(id: Option<&str>, name: &str, data: &str) -> String {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    format!("{id}event: {name}\ndata: {data}\n\n")
}

/// The answer that these pieces make.
pub(crate) fn answer(pieces: impl Stream<Item = String> + Send + 'static) -> Response {
    let pieces = pieces.map(|piece| Ok::<_, Infallible>(Bytes::from(piece)));
    let headers = [
        (CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM)),
        (NO_BUFFERING, HeaderValue::from_static("no")),
    ];
    (headers, Body::from_stream(pieces)).into_response()
}

/// How long an answer goes on.
#[derive(Debug)]
pub(crate) struct Going {
    admitted: Admitted,
    stop: CancellationToken,
    until: Instant,
    check_at: Instant,
    beat_at: Instant,
}

impl Going {
    /// Goes on from now, for 90 seconds unless the request wants fewer.
    ///
    /// # Errors
    /// 422 when it wants another number of seconds than there may be.
    pub(crate) fn new(
        admitted: Admitted,
        seconds: Option<u32>,
        stop: CancellationToken,
    ) -> Result<Self, ApiError> {
        let seconds = seconds.unwrap_or(*SECONDS.end());
        check_range(&seconds, &SECONDS).map_err(|detail| ApiError::invalid("seconds", detail))?;
        let now = Instant::now();
        Ok(Self {
            admitted,
            stop,
            until: now + Duration::from_secs(seconds.into()),
            check_at: now + CHECK,
            beat_at: now + QUIET,
        })
    }

    /// Whether the answer still goes on: it ends with its time, with the key or the session, and with the service.
    pub(crate) async fn goes_on(&mut self) -> bool {
        let now = Instant::now();
        if now >= self.until || self.stop.is_cancelled() {
            return false;
        }
        if now < self.check_at {
            return true;
        }
        self.check_at = now + CHECK;
        self.admitted.goes_on().await
    }

    /// Notes that something is sent.
    pub(crate) fn note_sent(&mut self) {
        self.beat_at = Instant::now() + QUIET;
    }

    /// Whether nothing was sent for a while.
    pub(crate) fn is_quiet(&self) -> bool {
        Instant::now() >= self.beat_at
    }

    /// Waits until it should be looked again whether the answer goes on.
    pub(crate) async fn pause(&self) {
        tokio::select! {
            () = sleep_until(self.check_at.min(self.until)) => {}
            () = self.stop.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_ends_with_an_empty_line() {
        assert_eq!(
            message(Some("1-2"), "event", r#"{"a":1}"#),
            "id: 1-2\nevent: event\ndata: {\"a\":1}\n\n"
        );
        assert_eq!(message(None, "stats", "{}"), "event: stats\ndata: {}\n\n");
    }
}
