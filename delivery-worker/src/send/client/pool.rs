//! Connections that wait for their next request. Over HTTP/1 one carries one request at a time; over HTTP/2 all requests
//! to a host share one.
//!
//! There is a limit for each host and one for all together: each is a descriptor. Beyond it the connection goes that would
//! be closed next anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::rt::Executor as _;
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;

use super::hosts::{Hosts, Http1, Idle, Sender, Shared};
use super::line::Line;

/// How long an idle connection is kept.
pub(super) const IDLE_TIMEOUT: Duration = Duration::from_mins(1);

const IDLE_PER_HOST: usize = 64;

/// How long a connection whose answer is complete may take until it could carry the next request.
const READY_TIMEOUT: Duration = Duration::from_secs(1);

/// All connections that may be used again.
pub(super) struct Pool {
    most_idle: usize,
    state: Mutex<Hosts>,
}

/// A connection that one attempt uses. Dropped before [`Use::release`] it is used no more: the attempt has run out of time,
/// or has heard what it did not understand.
pub(super) struct Use {
    pool: Arc<Pool>,
    host: Arc<str>,
    /// The connection.
    pub line: Arc<Line>,
    /// It carried requests before.
    pub is_reused: bool,
    heard_before: u64,
    sender: Option<Sender>,
}

impl Pool {
    /// Keeps at most `most_idle` connections that nobody uses.
    pub(super) fn new(most_idle: usize) -> Arc<Self> {
        Arc::new(Self {
            most_idle,
            state: Mutex::default(),
        })
    }

    /// A connection to a host that was opened after `opened`, if that is given.
    pub(super) fn take(self: &Arc<Self>, host: &str, opened: Option<Instant>) -> Option<Use> {
        let mut state = self.state();
        let (host, _) = state.by_name.get_key_value(host)?;
        let host = host.clone();
        let is_late_enough = |line: &Line| opened.is_none_or(|opened| line.opened() >= opened);
        if let Some((line, sender)) = state.share(&host, is_late_enough) {
            return Some(self.using(host, line, Sender::Http2(sender), true));
        }
        let now = Instant::now();
        while let Some(idle) = state.pop(&host) {
            let is_usable = !idle.line.is_retired() && !idle.sender.is_closed() && idle.turn.0 > now;
            if is_usable && is_late_enough(&idle.line) {
                idle.line.begin();
                return Some(self.using(host, idle.line, Sender::Http1(idle.sender), true));
            }
            idle.line.close();
        }
        None
    }

    /// A connection that was just opened. Where others have opened one at the same time that all can share, it is that one.
    pub(super) fn insert(
        self: &Arc<Self>,
        host: &str,
        line: Arc<Line>,
        sender: Sender,
        opened: Option<Instant>,
    ) -> Use {
        let mut state = self.state();
        let host: Arc<str> = match state.by_name.get_key_value(host) {
            Some((host, _)) => host.clone(),
            None => host.into(),
        };
        let Sender::Http2(sender) = sender else {
            return self.using(host, line, sender, false);
        };
        let is_late_enough = |line: &Line| opened.is_none_or(|opened| line.opened() >= opened);
        if let Some((shared, sender)) = state.share(&host, is_late_enough) {
            line.close();
            return self.using(host, shared, Sender::Http2(sender), true);
        }
        let shared = Shared {
            turn: None,
            line: line.clone(),
            sender: sender.clone(),
        };
        if let Some(old) = state
            .by_name
            .entry(host.clone())
            .or_default()
            .shared
            .replace(shared)
        {
            state.leave(&old);
        }
        self.using(host, line, Sender::Http2(sender), false)
    }

    fn using(self: &Arc<Self>, host: Arc<str>, line: Arc<Line>, sender: Sender, is_reused: bool) -> Use {
        Use {
            pool: self.clone(),
            host,
            is_reused,
            heard_before: line.heard(),
            line,
            sender: Some(sender),
        }
    }

    /// Closes what was idle for long enough.
    pub(super) fn close_expired(&self) {
        self.state().close_until(Instant::now());
    }

    /// Closes all idle connections.
    pub(super) fn close_idle(&self) {
        let state = &mut *self.state();
        while state.close_next() {}
    }

    fn put(&self, host: &Arc<str>, line: Arc<Line>, sender: Http1, until: Instant) {
        let mut state = self.state();
        let turn = state.turn(host, until);
        let idle = &mut state.by_name.entry(host.clone()).or_default().idle;
        idle.push(Idle { turn, line, sender });
        if idle.len() > IDLE_PER_HOST {
            let oldest = idle.remove(0);
            oldest.line.close();
            state.turns.remove(&oldest.turn);
        }
        self.keep_limit(&mut state);
    }

    fn keep_limit(&self, state: &mut Hosts) {
        while state.turns.len() > self.most_idle && state.close_next() {}
    }

    /// Ends the use of a shared connection.
    fn end_shared(&self, host: &Arc<str>, line: &Arc<Line>, until: Instant) {
        let mut state = self.state();
        if !line.end() {
            return;
        }
        let turn = state.turn(host, until);
        let entry = state
            .by_name
            .get_mut(host)
            .and_then(|entry| entry.shared.as_mut());
        if let Some(shared) = entry.filter(|shared| Arc::ptr_eq(&shared.line, line)) {
            shared.turn = Some(turn);
        } else {
            // Another one has taken its place.
            state.turns.remove(&turn);
            line.close();
        }
        if line.is_retired() {
            state.close(turn);
        }
        self.keep_limit(&mut state);
    }

    /// Closes the connections to a host that wait: one of them has fallen silent, and they may have met the same fate.
    fn forget(&self, host: &Arc<str>) {
        let mut state = self.state();
        while let Some(idle) = state.pop(host) {
            idle.line.close();
        }
    }

    fn state(&self) -> MutexGuard<'_, Hosts> {
        // What is under the lock is whole between any two statements.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Use {
    /// What the request is given to.
    pub(super) fn sender(&mut self) -> Option<&mut Sender> {
        self.sender.as_mut()
    }

    /// Whether no byte has come on the connection since this use began.
    pub(super) fn has_heard_nothing(&self) -> bool {
        self.line.heard() == self.heard_before
    }

    /// Ends the use. The connection may be used again for so long.
    pub(super) fn release(mut self, keep: Duration) {
        let until = Instant::now() + keep;
        match self.sender.take() {
            Some(Sender::Http1(sender)) => self.put_back(sender, until),
            Some(Sender::Http2(_)) => self.pool.end_shared(&self.host, &self.line, until),
            None => {}
        }
    }

    fn put_back(&mut self, mut sender: Http1, until: Instant) {
        self.line.end();
        if sender.is_ready() {
            self.pool.put(&self.host, self.line.clone(), sender, until);
            return;
        }
        // The request may not be written yet, although it is answered.
        let (pool, host, line) = (self.pool.clone(), self.host.clone(), self.line.clone());
        TokioExecutor::new().execute(async move {
            match tokio::time::timeout(READY_TIMEOUT, sender.ready()).await {
                Ok(Ok(())) => pool.put(&host, line, sender, until),
                Ok(Err(_)) | Err(_) => line.close(),
            }
        });
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        let Some(sender) = self.sender.take() else {
            return;
        };
        if self.is_reused && self.has_heard_nothing() {
            self.pool.forget(&self.host);
        }
        match sender {
            Sender::Http1(_) => self.line.close(),
            Sender::Http2(_) => {
                self.line.retire();
                self.pool.end_shared(&self.host, &self.line, Instant::now());
            }
        }
    }
}
