//! Bodies of requests whose key may be changed while they come.
//!
//! A key is looked at when a request's headers have come. Its body may take half a minute more, and a key that is revoked
//! meanwhile must not bring anything about any more. Nor must one that is revoked while its request waits for Postgres.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};

use crate::admission::{Admittance, Admitted};
use crate::error::ApiError;

/// How often it is looked whether the key of a request that waits was changed.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Gives work up when the key of its request is changed before it is done: for what would outlive the key, such as a URL
/// that events go to. Work may wait for seconds, for a connection and for locks. A statement that Postgres has begun by
/// itself, not in a transaction, is not taken back.
///
/// # Errors
/// Those of the work, or 503.
pub async fn unless_changed<T>(
    admitted: &Admitted,
    work: impl Future<Output = Result<T, ApiError>>,
) -> Result<T, ApiError> {
    let mut work = pin!(work);
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    loop {
        tokio::select! {
            biased;
            done = &mut work => return done,
            _ = tick.tick() => admitted.check_unchanged()?,
        }
    }
}

/// A body that ends with [`KeyChanged`] when the key of its request is changed while it comes.
#[derive(Debug)]
pub struct GuardedBody {
    body: Body,
    admittance: Arc<Admittance>,
    /// It was not there with the headers.
    has_waited: bool,
}

impl GuardedBody {
    /// Guards a body; one that is there already needs none.
    pub fn guard(body: Body, admittance: &Arc<Admittance>) -> Body {
        if body.is_end_stream() {
            return body;
        }
        Body::new(Self {
            body,
            admittance: admittance.clone(),
            has_waited: false,
        })
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if polled.is_pending() {
            self.has_waited = true;
        } else if self.has_waited
            && let Err(error) = self.admittance.check_unchanged()
        {
            return Poll::Ready(Some(Err(axum::Error::new(error))));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The key was changed after it was looked at. Whether it may still be used is seen when the request is repeated.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API key was changed while the request came: send it again")]
pub struct KeyChanged;

impl From<KeyChanged> for ApiError {
    fn from(_: KeyChanged) -> Self {
        Self::Unavailable {
            reason: "the API key was changed while the request came: send it again",
            retry_after: 1,
        }
    }
}
