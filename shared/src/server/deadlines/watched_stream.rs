//! What tells of a connection's progress: each read and each write.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf, Take};

use super::Progress;
use crate::server::bare_refusal::Problem;
use crate::server::frame_meter::FrameMeter;

/// Bytes after which other connections get their turn. The line before a chunk of a body may be of any length, and
/// hyper reads it for as long as bytes come.
pub(super) const TURN: u64 = 32 * 1024;

/// A connection's stream, whose reads and writes are noted.
#[derive(Debug)]
pub(in crate::server) struct WatchedStream<S> {
    /// The stream, of which the rest of this turn is read.
    stream: Take<S>,
    /// The notes of its reads and writes.
    progress: Progress,
    /// The count of its frames.
    frames: FrameMeter,
    /// The answer that is written in place of a bare refusal.
    refusal: Option<Problem>,
}

impl<S: AsyncRead> WatchedStream<S> {
    /// Notes what is read from `stream` and written to it.
    pub(in crate::server) fn new(stream: S, progress: Progress) -> Self {
        Self {
            stream: stream.take(TURN),
            progress,
            frames: FrameMeter::new(),
            refusal: None,
        }
    }
}

impl<S> WatchedStream<S> {
    fn note_write(&mut self, written: &Poll<io::Result<usize>>) {
        self.progress.note_write(written.is_pending());
        if let Poll::Ready(Ok(bytes)) = written {
            self.progress.note_taken(*bytes);
            self.frames.wrote(*bytes);
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for WatchedStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.stream.limit() == 0 {
            self.stream.set_limit(TURN);
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            self.stream.set_limit(TURN);
        }
        let came = &buffer.filled()[before..];
        if !came.is_empty() {
            self.progress.note_read();
        }
        if let Err(flood) = self.frames.read(came) {
            metrics::counter!("penstock_http2_floods_total").increment(1);
            return Poll::Ready(Err(io::Error::other(flood)));
        }
        read
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for WatchedStream<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.stream.get_mut()).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, refusal, .. } = &mut *self;
        let stream = stream.get_mut();
        let written = match Problem::instead_of(slices, refusal) {
            Some(problem) => problem.poll_write(stream, context),
            None => Pin::new(stream).poll_write_vectored(context, slices),
        };
        self.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.get_ref().is_write_vectored()
    }
}
