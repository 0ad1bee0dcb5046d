//! What a connection's bytes go through: they are counted, and none comes after its end.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};

use super::allowance::Next;
use super::line::Line;

/// Bytes after which others get their turn.
const TURN: usize = 16 * 1024;

/// What a connection that has sent too much is closed with.
const TOO_MUCH: &str = "it sends more than an answer may be";

/// The socket of a [`Line`]. All that comes is counted here, TLS and HTTP/2's own frames too.
#[derive(Debug)]
pub(super) struct Metered {
    socket: TcpStream,
    line: Arc<Line>,
    /// Read since others had their turn.
    turn: usize,
    wait: Option<Pin<Box<Sleep>>>,
}

impl Metered {
    /// Counts what comes on `socket`.
    pub(super) fn new(socket: TcpStream, line: Arc<Line>) -> Self {
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

/// A socket, or TLS on one.
pub(super) trait Socket: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Socket for T {}

/// What HTTP is spoken on: counts what came of answers.
pub(super) struct Heard {
    inner: Box<dyn Socket>,
    line: Arc<Line>,
}

impl Heard {
    /// Counts what comes out of `inner`.
    pub(super) fn new(inner: Box<dyn Socket>, line: Arc<Line>) -> Self {
        Self { inner, line }
    }
}

impl AsyncRead for Heard {
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

impl AsyncWrite for Heard {
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
