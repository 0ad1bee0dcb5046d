//! A connection to a receiver, as all who deal with it share it: what it may still send, whether it may be used again, and
//! how it is closed at once.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use futures_util::task::AtomicWaker;
use hyper::StatusCode;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::allowance::{Allowance, Next};

/// Bytes after which others get their turn.
const TURN: usize = 16 * 1024;

/// Interim (1xx) answers that one attempt may get.
const INTERIM_ANSWERS: u32 = 100;

/// What is kept of the start of an answer.
const START: usize = 32;

/// What a connection that has sent too much is closed with.
const TOO_MUCH: &str = "it sends more than an answer may be";
const TOO_MANY_INTERIM: &str = "it sends more interim answers than there may be";

/// A connection.
#[derive(Debug)]
pub struct Line {
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
    pub fn new() -> Arc<Self> {
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
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// How much has come of answers so far.
    pub fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// An attempt begins to use it.
    pub fn begin(&self) {
        self.allowance().begin();
        lock(&self.start).clear();
    }

    /// The status that an answer begins with, if it is final: what can be known of a head that is malformed.
    pub fn status(&self) -> Option<StatusCode> {
        status_line(&lock(&self.start))
    }

    fn hear(&self, bytes: &[u8]) {
        self.heard.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        let mut start = lock(&self.start);
        let room = START.saturating_sub(start.len());
        start.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// An attempt uses it no more. Returns whether none does.
    pub fn end(&self) -> bool {
        let mut allowance = self.allowance();
        allowance.end();
        allowance.attempts() == 0
    }

    /// Whether no attempt uses it.
    pub fn is_idle(&self) -> bool {
        self.allowance().attempts() == 0
    }

    /// Lets no new request go out on it. Those that are under way go on.
    pub fn retire(&self) {
        self.retired.store(true, Ordering::Relaxed);
        if self.is_idle() {
            self.close();
        }
    }

    /// Whether [`Line::retire`] was called.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Relaxed)
    }

    /// Closes it at once, whatever is under way.
    pub fn close(&self) {
        self.retired.store(true, Ordering::Relaxed);
        self.closed.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// Why it was closed, if the receiver has sent what it may not.
    pub fn misbehaviour(&self) -> Option<&'static str> {
        self.misbehaviour.get().copied()
    }

    /// What is to be called with each interim answer of an attempt.
    pub fn interim_counter(self: &Arc<Self>) -> impl Fn() + Send + Sync + 'static {
        let (line, seen) = (Arc::downgrade(self), AtomicU32::new(0));
        move || {
            if seen.fetch_add(1, Ordering::Relaxed) >= INTERIM_ANSWERS
                && let Some(line) = line.upgrade()
            {
                line.hang_up(TOO_MANY_INTERIM);
            }
        }
    }

    fn hang_up(&self, reason: &'static str) {
        let _ = self.misbehaviour.set(reason);
        self.close();
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        lock(&self.allowance)
    }

    fn is_open(&self) -> io::Result<()> {
        if self.closed.load(Ordering::Acquire) {
            let reason = self.misbehaviour().unwrap_or("the worker has closed it");
            Err(io::Error::new(io::ErrorKind::ConnectionAborted, reason))
        } else {
            Ok(())
        }
    }

    /// Closing wakes whoever waits for the socket. Registered first: a close in between is seen here.
    fn pending<T>(&self, context: &Context<'_>) -> Poll<io::Result<T>> {
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

/// The socket of a [`Line`]. All that comes is counted here, TLS and HTTP/2's own frames too.
#[derive(Debug)]
pub struct Metered {
    socket: TcpStream,
    line: Arc<Line>,
    /// Read since others had their turn.
    turn: usize,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    /// Counts what comes on `socket`.
    pub fn new(socket: TcpStream, line: Arc<Line>) -> Self {
        Self {
            socket,
            line,
            turn: 0,
            wait: None,
        }
    }

    /// Waits until it may be read again.
    fn poll_turn(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if let Some(wait) = &mut self.wait {
            ready!(wait.as_mut().poll(context));
            self.wait = None;
        }
        if self.turn >= TURN {
            self.turn = 0;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    fn count(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.turn += bytes;
        let next = self.line.allowance().take(bytes, Instant::now());
        match next {
            Next::Read => {}
            Next::Wait(time) => self.wait = Some(Box::pin(sleep(time))),
            Next::HangUp => self.line.hang_up(TOO_MUCH),
        }
        self.line.is_open()
    }
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.line.is_open()?;
        if self.poll_turn(context).is_pending() {
            return self.line.pending(context);
        }
        let before = buffer.filled().len();
        match Pin::new(&mut self.socket).poll_read(context, buffer) {
            Poll::Ready(Ok(())) => Poll::Ready(self.count(buffer.filled().len() - before)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                self.turn = 0;
                self.line.pending(context)
            }
        }
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.line.is_open()?;
        match Pin::new(&mut self.socket).poll_write(context, bytes) {
            Poll::Pending => self.line.pending(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.line.is_open()?;
        match Pin::new(&mut self.socket).poll_write_vectored(context, bytes) {
            Poll::Pending => self.line.pending(context),
            written @ Poll::Ready(_) => written,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

/// What HTTP is spoken on: counts what came of answers.
#[derive(Debug)]
pub struct Heard<T> {
    inner: T,
    line: Arc<Line>,
}

impl<T> Heard<T> {
    /// Counts what comes out of `inner`.
    pub fn new(inner: T, line: Arc<Line>) -> Self {
        Self { inner, line }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Heard<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.inner).poll_read(context, buffer);
        let bytes = buffer.filled().len() - before;
        if bytes > 0 {
            self.line.hear(&buffer.filled()[before..]);
        }
        read
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Heard<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
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
