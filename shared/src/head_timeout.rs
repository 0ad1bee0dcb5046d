//! A deadline for the head of each request, counted from its first byte.
//!
//! hyper's own deadline begins when the request before has been answered. It would also close connections that are only
//! idle, and a load balancer that is about to send its next request on one gets no answer.
//!
//! The part of a head that comes before the request before it is answered is not noticed; if no more follows, the deadline for
//! idle connections is the one.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

// What a connection is doing, besides the time since which it has been sending a head.
const IDLE: u64 = u64::MAX;
const IN_REQUEST: u64 = u64::MAX - 1;
const UNLIMITED: u64 = u64::MAX - 2;

/// What one connection is doing. Its first head is due from the start.
#[derive(Clone, Debug)]
pub struct Heads(Arc<State>);

#[derive(Debug)]
struct State {
    opened: Instant,
    /// Milliseconds after that, or one of the constants.
    doing: AtomicU64,
}

impl Heads {
    /// Of a connection that was just accepted.
    pub fn new() -> Self {
        Self(Arc::new(State {
            opened: Instant::now(),
            doing: AtomicU64::new(0),
        }))
    }

    /// A head is there; what comes now is its body.
    pub fn complete(&self) {
        self.0.doing.store(IN_REQUEST, Ordering::Relaxed);
    }

    /// A head is there, and what comes from now on is no matter of heads: HTTP/2 mixes requests.
    pub fn complete_for_good(&self) {
        self.0.doing.store(UNLIMITED, Ordering::Relaxed);
    }

    /// The request is answered; what comes next is the next head.
    pub fn answered(&self) {
        self.change(IN_REQUEST, IDLE);
    }

    fn byte_came(&self) {
        if self.0.doing.load(Ordering::Relaxed) == IDLE {
            let since = u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(0);
            self.change(IDLE, since);
        }
    }

    fn change(&self, from: u64, to: u64) {
        // A failure says that something else came first.
        let _ = self
            .0
            .doing
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Ends when a head takes longer than `timeout`.
    pub async fn late(self, timeout: Duration) {
        loop {
            let due = match self.0.doing.load(Ordering::Relaxed) {
                UNLIMITED => return std::future::pending().await,
                IDLE | IN_REQUEST => Instant::now() + timeout,
                since => self.0.opened + Duration::from_millis(since) + timeout,
            };
            if due <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

/// A connection's stream that notes when something comes.
#[derive(Debug)]
pub struct Noting<S> {
    /// The stream.
    pub stream: S,
    /// Where it is noted.
    pub heads: Heads,
}

impl<S: AsyncRead + Unpin> AsyncRead for Noting<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.heads.byte_came();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Noting<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(10);

    /// Whether a head has become late.
    fn is_late(heads: &Heads) -> bool {
        heads.clone().late(TIMEOUT).now_or_never().is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_is_for_heads_and_not_for_the_time_between_them() {
        let heads = Heads::new();
        heads.complete();
        tokio::time::advance(TIMEOUT * 3).await;
        assert!(!is_late(&heads), "it sends a body");
        heads.answered();
        tokio::time::advance(TIMEOUT * 3).await;
        assert!(!is_late(&heads), "it is idle");
        heads.byte_came();
        tokio::time::advance(TIMEOUT / 2).await;
        heads.byte_came();
        assert!(!is_late(&heads), "it sends a head");
        tokio::time::advance(TIMEOUT / 2).await;
        assert!(is_late(&heads), "counted from the first byte");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_head_is_due_from_the_start_and_http2_has_no_other() {
        let heads = Heads::new();
        tokio::time::advance(TIMEOUT).await;
        assert!(is_late(&heads));
        heads.complete_for_good();
        heads.answered();
        heads.byte_came();
        tokio::time::advance(TIMEOUT).await;
        assert!(!is_late(&heads));
    }
}
