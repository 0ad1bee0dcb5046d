//! The part of a request's body that the handler did not read.
//!
//! A connection that is closed on data in flight is reset, and its client might never see the answer. So the rest of
//! the body is read all the same, within limits, and dropped, while the answer is on its way. HTTP/2 needs none of
//! this: a stream ends alone.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::http::{Response, StatusCode};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, timeout_at};

/// Bytes that are read of an unwanted body, unless its answer says otherwise.
const UNWANTED_BYTES: usize = 256 * 1024;

/// An extension of an answer: how much of its request's unwanted body may be read. Without it that is little, because
/// requests without a key are answered too.
#[derive(Clone, Copy, Debug)]
pub struct Discard {
    /// Bytes beyond which the rest stays unread.
    pub bytes: usize,
    /// How long after its head a request's body may come.
    pub within: Duration,
}

impl Discard {
    /// The limits that an answer allows. Without the extension, they are those of requests without a key, which get
    /// `patience`. Nothing is read of a body that did not arrive in time.
    pub fn of<B>(answer: &Response<B>, patience: Duration) -> Self {
        if answer.status() == StatusCode::REQUEST_TIMEOUT {
            return Self {
                bytes: 0,
                within: Duration::ZERO,
            };
        }
        answer.extensions().get().copied().unwrap_or(Self {
            bytes: UNWANTED_BYTES,
            within: patience,
        })
    }

    /// Reads a body whose request came at `begun` to its end, or as far as it may.
    pub async fn read(self, mut body: Incoming, begun: Instant) {
        let (Self { bytes, within }, mut length) = (self, 0);
        let reading = async {
            while length <= bytes && body.size_hint().lower() <= (bytes - length) as u64 {
                let frame = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
                let Some(Ok(frame)) = frame else { return };
                length += frame.data_ref().map_or(0, Bytes::len);
            }
        };
        let _ = timeout_at(begun + within, reading).await;
    }
}

/// The place for the body of one HTTP/1 connection that was not read to its end.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    /// The rest of the last request's body.
    pub(super) fn take(&self) -> Option<Incoming> {
        self.slot().take()
    }

    fn slot(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body.
#[derive(Debug)]
pub(super) struct RequestBody {
    // Some until it is dropped.
    incoming: Option<Incoming>,
    /// Where it goes when it is not read to its end.
    leftover: Option<Leftover>,
    /// Whether the client sends the body. After `Expect: 100-continue` it waits until the body is read.
    is_sent: bool,
    has_ended: bool,
}

impl RequestBody {
    /// Takes the body of a request, which goes into `leftover` when it is not read to its end.
    pub(super) fn of(request: Request<Incoming>, leftover: Option<Leftover>) -> Request<Self> {
        let is_sent = !request.headers().contains_key(EXPECT);
        request.map(|incoming| Self {
            has_ended: incoming.is_end_stream(),
            incoming: Some(incoming),
            leftover,
            is_sent,
        })
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else {
            return Poll::Ready(None);
        };
        let polled = Pin::new(incoming).poll_frame(context);
        self.is_sent = true;
        if let Poll::Ready(None | Some(Err(_))) = polled {
            self.has_ended = true;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming
            .as_ref()
            .map_or_else(SizeHint::default, Body::size_hint)
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.is_sent || self.has_ended || self.is_end_stream() {
            return;
        }
        if let Some(leftover) = &self.leftover {
            *leftover.slot() = self.incoming.take();
        }
    }
}
