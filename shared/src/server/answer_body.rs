//! Bodies of answers on their way out.
//!
//! An HTTP/2 connection takes a body in one piece from hyper and keeps it until the client opens its window, and does
//! not tell the service. So a large body goes out in pieces, each after the one before it. Then the service knows when
//! the client has all of it, and can end an answer that takes too long.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use hyper::rt::Executor;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::server::deadlines::{OpenRequest, Sending};

/// A body up to this many bytes goes out as it is: a connection may keep a few of these.
const SMALL_BYTES: u64 = 4 * 1024;

/// Bytes of a large body that a connection gets at once.
const PIECE_BYTES: usize = 64 * 1024;

tokio::task_local! {
    /// When the answer of this HTTP/2 stream must be out. None while there is no answer, or for a small one.
    static DUE: Cell<Option<Instant>>;
}

/// The body of an answer.
#[derive(Debug)]
pub(super) struct Answer {
    body: Body,
    /// The pieces of a large body. None for a small one.
    pieces: Option<Pieces>,
    _request: OpenRequest,
}

impl Answer {
    /// The body of the answer to a request, which a client has to take within `patience` from now.
    pub(super) fn new(body: Body, request: OpenRequest, patience: Duration) -> Self {
        let is_small = body
            .size_hint()
            .exact()
            .is_some_and(|length| length <= SMALL_BYTES);
        let pieces = (!is_small).then(|| {
            // On HTTP/1 the connection keeps this deadline.
            let _ = DUE.try_with(|due| due.set(Some(Instant::now() + patience)));
            Pieces {
                rest: Bytes::new(),
                before: None,
                sending: Arc::new(request.sending()),
            }
        });
        Self {
            body,
            pieces,
            _request: request,
        }
    }
}

impl HttpBody for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Self { body, pieces, .. } = &mut *self;
        let Some(pieces) = pieces else {
            return Pin::new(body).poll_frame(context);
        };
        ready!(pieces.poll_out(context));
        if pieces.rest.is_empty() {
            match ready!(Pin::new(body).poll_frame(context)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => pieces.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                },
                end => return Poll::Ready(end),
            }
        }
        Poll::Ready(Some(Ok(Frame::data(pieces.next()))))
    }

    /// A large body has ended only when its last piece is out.
    fn is_end_stream(&self) -> bool {
        self.pieces.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.pieces.as_ref().map_or(0, |pieces| pieces.rest.len() as u64);
        let whole = self.body.size_hint().exact().map(|left| left + rest);
        whole.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[derive(Debug)]
struct Pieces {
    /// The rest of the body's last frame.
    rest: Bytes,
    /// Ends when the piece before is out.
    before: Option<oneshot::Receiver<()>>,
    sending: Arc<Sending>,
}

impl Pieces {
    fn poll_out(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(before) = &mut self.before {
            // No value is ever sent: the receiver ends with an error when the piece is dropped.
            let _ = ready!(Pin::new(before).poll(context));
            self.before = None;
        }
        Poll::Ready(())
    }

    fn next(&mut self) -> Bytes {
        let (out, before) = oneshot::channel();
        self.before = Some(before);
        Bytes::from_owner(Piece {
            bytes: self.rest.split_to(PIECE_BYTES.min(self.rest.len())),
            _out: out,
            _sending: self.sending.clone(),
        })
    }
}

/// A piece of an answer. It is out when it is dropped.
struct Piece {
    bytes: Bytes,
    _out: oneshot::Sender<()>,
    _sending: Arc<Sending>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Runs the streams of HTTP/2 connections. One whose answer is not out when it is due is reset, and gives its memory back.
#[derive(Clone, Debug)]
pub(super) struct Streams;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, stream: F) {
        #[expect(clippy::disallowed_methods, reason = "it ends with its connection")]
        tokio::spawn(DUE.scope(Cell::new(None), until_due(stream)));
    }
}

async fn until_due(stream: impl Future<Output = ()>) {
    tokio::select! {
        // The stream first, because it sets the deadline.
        biased;
        () = stream => {}
        () = due() => tracing::debug!("reset a stream whose client took its answer too slowly"),
    }
}

async fn due() {
    let due = poll_fn(|_| DUE.with(Cell::get).map_or(Poll::Pending, Poll::Ready)).await;
    tokio::time::sleep_until(due).await;
}
