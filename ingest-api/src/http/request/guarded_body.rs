//! Bodies of requests whose key may be changed while they arrive.
//!
//! A key is checked when the headers of a request have arrived. The body may take half a minute more. A key that is revoked
//! in this time must have no effect, nor one that is revoked while its request waits for Postgres.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::http::admission::admitted::{Admittance, Admitted, KeyChanged};
use crate::http::error::ApiError;

/// How often the key of a waiting request is checked.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Does work, and drops it when the key of its request is changed before it ends. For work whose effect would outlive
/// the key, such as an endpoint's new URL: it may wait seconds for a connection and for locks. A statement outside a
/// transaction goes on once Postgres has begun it; one that changes an endpoint takes no effect when the key is revoked.
///
/// # Errors
/// Those of the work, or 503.
pub(crate) async fn unless_changed<T>(
    admitted: &Admitted,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let mut work = pin!(work);
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tick.tick() => admitted.check_unchanged().await?,
        }
    }
}

/// A part of a body that waits for the check of its key.
type Held = Pin<Box<dyn Future<Output = Part> + Send>>;

/// A part of a body, or its end.
type Part = Option<Result<Frame<Bytes>, axum::Error>>;

/// The body of a request with a key, or without. It ends with [`KeyChanged`] when the key is changed while it comes.
#[derive(Default)]
pub(crate) struct GuardedBody {
    body: Body,
    /// The request's admission, if it has a key.
    admittance: Option<Arc<Admittance>>,
    /// Whether it arrived after the headers.
    has_waited: bool,
    held: Option<Held>,
}

impl GuardedBody {
    /// Guards the body of a request that was admitted by its key, or that needed none.
    pub(crate) fn new(body: Body, admittance: Option<Arc<Admittance>>) -> Self {
        Self {
            body,
            admittance,
            has_waited: false,
            held: None,
        }
    }

    /// Passes on a part that arrived later than the headers, if the key is unchanged.
    fn pass(&mut self, part: Part, context: &mut Context<'_>) -> Poll<Part> {
        let Some(admittance) = &self.admittance else {
            return Poll::Ready(part);
        };
        match admittance.is_unchanged() {
            Some(true) => Poll::Ready(part),
            Some(false) => Poll::Ready(Some(Err(axum::Error::new(KeyChanged)))),
            None => {
                let admittance = admittance.clone();
                let held = self.held.insert(Box::pin(async move {
                    match admittance.check_unchanged().await {
                        Ok(()) => part,
                        Err(changed) => Some(Err(axum::Error::new(changed))),
                    }
                }));
                let polled = held.as_mut().poll(context);
                if polled.is_ready() {
                    self.held = None;
                }
                polled
            }
        }
    }
}

impl std::fmt::Debug for GuardedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("GuardedBody")
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Part> {
        if let Some(held) = &mut self.held {
            let polled = held.as_mut().poll(context);
            if polled.is_ready() {
                self.held = None;
            }
            return polled;
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Pending => {
                self.has_waited = true;
                Poll::Pending
            }
            Poll::Ready(part) if self.has_waited => self.pass(part, context),
            Poll::Ready(part) => Poll::Ready(part),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
