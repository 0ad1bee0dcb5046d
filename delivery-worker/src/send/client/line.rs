//! A connection to a receiver, as all who deal with it share it: what it may still send, whether it may be used again, and
//! how it is closed at once.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;
use hyper::StatusCode;
use tokio::time::Instant;

use super::allowance::Allowance;

/// Interim (1xx) answers that one attempt may get.
const INTERIM_ANSWERS: u32 = 100;

/// What is kept of the start of an answer.
const START: usize = 32;

/// What a connection with more interim answers is closed with.
const TOO_MANY_INTERIM: &str = "it sends more interim answers than there may be";

/// A connection.
#[derive(Debug)]
pub(crate) struct Line {
    opened: Instant,
    allowance: Mutex<Allowance>,
    /// Bytes that came inside of TLS.
    heard: AtomicU64,
    /// The first of them since a request began.
    start: Mutex<Vec<u8>>,
    /// No new request goes out on it.
    retired: AtomicBool,
    closed: AtomicBool,
    misbehaviour: OnceLock<&'static str>,
    waker: AtomicWaker,
}

impl Line {
    /// For a connection that is being opened for an attempt.
    pub(crate) fn new() -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            opened: now,
            allowance: Mutex::new(Allowance::new(now)),
            heard: AtomicU64::new(0),
            start: Mutex::default(),
            retired: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            misbehaviour: OnceLock::new(),
            waker: AtomicWaker::new(),
        })
    }

    /// When it was opened.
    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    /// How much has come of answers so far.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// An attempt begins to use it.
    pub(crate) fn begin(&self) {
        self.allowance().begin();
        lock(&self.start).clear();
    }

    /// The status that an answer begins with, if it is final: what can be known of a head that is malformed.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        status_line(&lock(&self.start))
    }

    pub(super) fn hear(&self, bytes: &[u8]) {
        self.heard.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut start = lock(&self.start);
        let room = START.saturating_sub(start.len());
        start.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// An attempt uses it no more. Returns whether none does.
    pub(crate) fn end(&self) -> bool {
        let mut allowance = self.allowance();
        allowance.end();
        allowance.attempts() == 0
    }

    /// Whether no attempt uses it.
    pub(crate) fn is_idle(&self) -> bool {
        self.allowance().attempts() == 0
    }

    /// Lets no new request go out on it. Those that are under way go on.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        if self.is_idle() {
            self.close();
        }
    }

    /// Whether [`Line::retire`] was called.
    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Closes it at once, whatever is under way.
    pub(crate) fn close(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Why it was closed, if the receiver has sent what it may not.
    pub(crate) fn misbehaviour(&self) -> Option<&'static str> {
        self.misbehaviour.get().copied()
    }

    /// What is to be called with each interim answer of an attempt.
    pub(crate) fn interim_counter(self: &Arc<Self>) -> impl Fn() + Send + Sync + 'static {
        let (line, seen) = (Arc::downgrade(self), AtomicU32::new(0));
        move || {
            if seen.fetch_add(1, Ordering::Relaxed) >= INTERIM_ANSWERS
                && let Some(line) = line.upgrade()
            {
                line.hang_up(TOO_MANY_INTERIM);
            }
        }
    }

    pub(super) fn hang_up(&self, reason: &'static str) {
        let _ = self.misbehaviour.set(reason);
        self.close();
    }

    pub(super) fn allowance(&self) -> MutexGuard<'_, Allowance> {
        lock(&self.allowance)
    }

    pub(super) fn is_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let reason = self.misbehaviour().unwrap_or("the worker has closed it");
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
        } else {
            Ok(())
        }
    }

    /// Closing wakes whoever waits for the socket. Registered first: a close in between is seen here.
    pub(super) fn pending<T>(&self, context: &Context<'_>) -> Poll<io::Result<T>> {
        self.waker.register(context.waker());
        match self.is_open() {
            Ok(()) => Poll::Pending,
            Err(closed) => Poll::Ready(Err(closed)),
        }
    }
}

/// What is under the locks is whole between any two statements.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The final status in `HTTP/1.x NNN`, whatever follows.
fn status_line(start: &[u8]) -> Option<StatusCode> {
    let minor_and_rest = start.trim_ascii_start().strip_prefix(b"HTTP/1.")?;
    let digits = minor_and_rest
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let rest = &minor_and_rest[digits..];
    let (code, after) = rest.trim_ascii_start().split_at_checked(3)?;
    let ends = after.first().is_none_or(|byte| !byte.is_ascii_digit());
    let is_apart = digits > 0 && rest.first().is_some_and(u8::is_ascii_whitespace);
    let status = StatusCode::from_bytes(code).ok()?;
    (is_apart && ends && !status.is_informational()).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_malformed_head_is_read_as_far_as_it_can_be() {
        let read = |text: &str| status_line(text.as_bytes()).map(|status| status.as_u16());
        for text in [
            "HTTP/1.1 200 O\x01K",
            "HTTP/1.1  200 OK",
            "HTTP/1.0 200",
            "HTTP/1.1 200\r",
            "HTTP/1.10\t200 OK",
        ] {
            assert_eq!(read(text), Some(200), "{text}");
        }
        assert_eq!(read("HTTP/1.1 503 Busy"), Some(503));
        for text in [
            "",
            "HTTP/1.1 ",
            "HTTP/1.1 20",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1200 OK",
            "HTTP/1. 200 OK",
            "HTTP/2 200",
            "HTTP/1.1 100 Continue",
            "SSH-2.0-OpenSSH_9.2",
            "HTTP/1.1 abc",
            "HTTP/1.1 099 X",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
