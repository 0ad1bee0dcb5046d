//! What is left unread of a request's body.
//!
//! A connection that is closed on data in flight is reset, and its client might never see the answer. So what a handler did
//! not want is read all the same, within limits, and dropped, while the answer is on its way. HTTP/2 needs none of this: a
//! stream ends alone.

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

/// What is read of a body that nobody wants, unless its answer says otherwise.
const UNWANTED_BYTES: usize = 256 * 1024;

/// An extension of an answer: what may be read of its request's body although nobody wants it. Without it that is little:
/// strangers are answered too.
#[derive(Clone, Copy, Debug)]
pub struct Discard {
    /// Bytes beyond which the rest stays unread.
    pub bytes: usize,
    /// How long after its head a request's body may come.
    pub within: Duration,
}

impl Discard {
    /// What an answer allows: unless it says so, what is allowed to strangers, who get `patience`. Nothing of a body that has
    /// had its time.
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

/// Where one HTTP/1 connection's body that was not read to its end is put.
#[derive(Clone, Debug, Default)]
pub(super) struct Leftover(Arc<Mutex<Option<Incoming>>>);

impl Leftover {
    /// What the handler of the last request has left.
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
    /// Whether its client sends it: some wait for a word, which they get when it is read.
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
