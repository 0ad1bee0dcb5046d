//! Deadlines of a connection: for the head of each request, for an answer that its client does not take, and for the time
//! without requests.
//!
//! hyper's own deadline for heads is not set. It begins when the request before has been answered, so it would also close
//! connections that are only idle, and a load balancer that is about to send its next request on one gets no answer. And
//! it makes and ends a timer for each request; here a connection has one timer for as long as it lasts.
//!
//! With pipelining, a partial head that arrives before the previous answer is not noticed: only the deadline for idle
//! connections covers it.

mod watched_stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

pub(super) use self::watched_stream::WatchedStream;

// What a connection is reading, besides the time since which it has been sending a head.
const NOTHING: u64 = u64::MAX;
const BODY: u64 = u64::MAX - 1;
const HTTP2: u64 = u64::MAX - 2;

/// Longest write that may be nothing but answers to frames of HTTP/2 that belong to no request, such as pings.
const FRAMES_ALONE: usize = 64;

/// The shortest pause between two looks at a connection's deadlines, however short these are.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// What one connection is doing. Its first head is due from the start.
#[derive(Clone, Debug)]
pub(super) struct Progress(Arc<State>);

// Times are milliseconds after `opened`.
#[derive(Debug)]
struct State {
    opened: Instant,
    /// Since when a head is read, or one of the constants.
    reading: AtomicU64,
    /// Since when the client has taken none of the bytes to be written, or `NOTHING`.
    blocked: AtomicU64,
    /// Requests that are not answered or not read to their end, and when one last was, or a part of its answer was taken.
    open: AtomicU32,
    answered: AtomicU64,
    /// Large answers that are not out, and since when there has been one.
    sending: AtomicU32,
    sending_since: AtomicU64,
}

/// What a connection has a deadline for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadlines {
    /// For the head of a request, and for a client that takes none of the bytes to be written.
    pub patience: Duration,
    /// For a connection without requests.
    pub idle: Duration,
    /// For a client that takes a large answer over HTTP/1.
    pub answer: Duration,
}

/// A request that is not answered, or whose body is still being read.
#[derive(Debug)]
pub(super) struct OpenRequest {
    progress: Progress,
    is_http1: bool,
}

impl Progress {
    /// The state of a connection that was just accepted.
    pub(super) fn new() -> Self {
        Self(Arc::new(State {
            opened: Instant::now(),
            reading: AtomicU64::new(0),
            blocked: AtomicU64::new(NOTHING),
            open: AtomicU32::new(0),
            answered: AtomicU64::new(0),
            sending: AtomicU32::new(0),
            sending_since: AtomicU64::new(0),
        }))
    }

    /// Notes that a request's head has arrived. The request is answered, or given up, when the returned value is
    /// dropped.
    pub(super) fn request(&self, is_http1: bool) -> OpenRequest {
        // HTTP/2 mixes requests, so that later bytes have no deadline for heads.
        let reading = if is_http1 { BODY } else { HTTP2 };
        self.0.reading.store(reading, Ordering::Relaxed);
        self.0.open.fetch_add(1, Ordering::Relaxed);
        OpenRequest {
            progress: self.clone(),
            is_http1,
        }
    }

    fn note_read(&self) {
        if self.0.reading.load(Ordering::Relaxed) == NOTHING {
            self.change(NOTHING, self.now());
        }
    }

    fn note_write(&self, is_blocked: bool) {
        let was_blocked = self.0.blocked.load(Ordering::Relaxed) != NOTHING;
        if is_blocked != was_blocked {
            let since = if is_blocked { self.now() } else { NOTHING };
            self.0.blocked.store(since, Ordering::Relaxed);
        }
    }

    /// Notes that the client has taken so many bytes. HTTP/2 keeps parts of an answer that is over here for as long as the client
    /// has no room for them: a connection that sends these is not idle.
    fn note_taken(&self, bytes: usize) {
        if bytes > FRAMES_ALONE && self.0.reading.load(Ordering::Relaxed) == HTTP2 {
            self.0.answered.store(self.now(), Ordering::Relaxed);
        }
    }

    fn change(&self, from: u64, to: u64) {
        // It fails when another change came first.
        let _ = self
            .0
            .reading
            .compare_exchange(from, to, Ordering::Relaxed, Ordering::Relaxed);
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.opened.elapsed().as_millis()).unwrap_or(0)
    }

    /// Ends when the connection has missed a deadline.
    pub(super) async fn late(self, deadlines: Deadlines) {
        let Deadlines {
            patience,
            idle,
            answer,
        } = deadlines;
        let state = &*self.0;
        let at = |millis, wait| state.opened + Duration::from_millis(millis) + wait;
        // What begins after one look is not due before the next.
        let pause = patience.min(idle).max(SHORTEST_PAUSE);
        loop {
            let now = Instant::now();
            let mut due = now + pause;
            let reading = state.reading.load(Ordering::Relaxed);
            match reading {
                BODY => {}
                NOTHING | HTTP2 if state.open.load(Ordering::Acquire) > 0 => {}
                NOTHING | HTTP2 => due = due.min(at(state.answered.load(Ordering::Relaxed), idle)),
                since => due = due.min(at(since, patience)),
            }
            match state.blocked.load(Ordering::Relaxed) {
                NOTHING => {}
                since => due = due.min(at(since, patience)),
            }
            // A late stream of HTTP/2 ends alone, without its connection.
            if reading != HTTP2 && state.sending.load(Ordering::Relaxed) > 0 {
                due = due.min(at(state.sending_since.load(Ordering::Relaxed), answer));
            }
            if due <= now {
                return;
            }
            tokio::time::sleep_until(due).await;
        }
    }
}

impl OpenRequest {
    /// Notes that its answer is a large one. The answer is out when the returned value is dropped.
    pub(super) fn sending(&self) -> Sending {
        let (progress, state) = (self.progress.clone(), &*self.progress.0);
        if state.sending.load(Ordering::Relaxed) == 0 {
            state.sending_since.store(progress.now(), Ordering::Relaxed);
        }
        state.sending.fetch_add(1, Ordering::Relaxed);
        Sending(progress)
    }
}

/// A large answer that is not out.
#[derive(Debug)]
pub(super) struct Sending(Progress);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.0.sending.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let progress = &self.progress;
        progress.0.answered.store(progress.now(), Ordering::Relaxed);
        // Whoever reads that none is open reads also when the last one was answered.
        let open = progress.0.open.fetch_sub(1, Ordering::Release) - 1;
        if self.is_http1 && open == 0 {
            // The next bytes are the next head.
            progress.change(BODY, NOTHING);
        }
    }
}

#[cfg(test)]
mod tests;
