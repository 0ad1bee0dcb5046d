//! The connections of a pool by host, and in the order in which they will be closed.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::{http1, http2};
use tokio::time::Instant;

use super::line::Line;

pub(super) type Http1 = http1::SendRequest<Full<Bytes>>;
pub(super) type Http2 = http2::SendRequest<Full<Bytes>>;

/// What requests are given to.
pub(super) enum Sender {
    /// One at a time.
    Http1(Http1),
    /// Any number.
    Http2(Http2),
}

/// When a connection will be closed, and which of those that will be then.
pub(super) type Turn = (Instant, u64);

/// An HTTP/1 connection that nobody uses.
pub(super) struct Idle {
    pub turn: Turn,
    pub line: Arc<Line>,
    pub sender: Http1,
}

/// The HTTP/2 connection that all requests to a host share.
pub(super) struct Shared {
    /// `None` while requests are under way.
    pub turn: Option<Turn>,
    pub line: Arc<Line>,
    pub sender: Http2,
}

#[derive(Default)]
pub(super) struct Host {
    pub idle: Vec<Idle>,
    pub shared: Option<Shared>,
}

/// The connections that are not in use, or shared, by host.
#[derive(Default)]
pub(super) struct Hosts {
    pub by_name: HashMap<Arc<str>, Host>,
    /// All idle connections, those that will be closed next first.
    pub turns: BTreeMap<Turn, Arc<str>>,
    next: u64,
}

impl Hosts {
    /// A share of the connection that all requests to a host share.
    pub(super) fn share(
        &mut self,
        host: &Arc<str>,
        is_wanted: impl Fn(&Line) -> bool,
    ) -> Option<(Arc<Line>, Http2)> {
        let entry = self.by_name.get_mut(host)?;
        let shared = entry.shared.as_mut()?;
        if shared.sender.is_closed() || shared.line.is_retired() {
            let old = entry.shared.take()?;
            self.leave(&old);
            return None;
        }
        if !is_wanted(&shared.line) {
            return None;
        }
        shared.line.begin();
        let turn = shared.turn.take();
        let found = (shared.line.clone(), shared.sender.clone());
        if let Some(turn) = turn {
            self.turns.remove(&turn);
        }
        Some(found)
    }

    /// Lets a shared connection end with its last request.
    pub(super) fn leave(&mut self, old: &Shared) {
        old.line.retire();
        if let Some(turn) = old.turn {
            self.turns.remove(&turn);
        }
    }

    /// The idle connection to a host that was used last.
    pub(super) fn pop(&mut self, host: &Arc<str>) -> Option<Idle> {
        let entry = self.by_name.get_mut(host)?;
        let idle = entry.idle.pop();
        if entry.idle.is_empty() && entry.shared.is_none() {
            // The connection may never come back.
            self.by_name.remove(host);
        }
        if let Some(idle) = &idle {
            self.turns.remove(&idle.turn);
        }
        idle
    }

    pub(super) fn turn(&mut self, host: &Arc<str>, until: Instant) -> Turn {
        self.next += 1;
        let turn = (until, self.next);
        self.turns.insert(turn, host.clone());
        turn
    }

    pub(super) fn close_until(&mut self, now: Instant) {
        while self
            .turns
            .first_key_value()
            .is_some_and(|(turn, _)| turn.0 <= now)
        {
            self.close_next();
        }
    }

    /// Closes the idle connection that would be closed next anyway. False when there is none.
    pub(super) fn close_next(&mut self) -> bool {
        let next = self.turns.first_key_value().map(|(turn, _)| *turn);
        next.is_some_and(|turn| self.close(turn))
    }

    /// Closes an idle connection. False when it is not there.
    pub(super) fn close(&mut self, turn: Turn) -> bool {
        let Some(host) = self.turns.remove(&turn) else {
            return false;
        };
        let Some(entry) = self.by_name.get_mut(&host) else {
            return true;
        };
        if let Some(index) = entry.idle.iter().position(|idle| idle.turn == turn) {
            entry.idle.remove(index).line.close();
        } else if let Some(shared) = entry.shared.take_if(|shared| shared.turn == Some(turn)) {
            shared.line.close();
        }
        if entry.idle.is_empty() && entry.shared.is_none() {
            self.by_name.remove(&host);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use hyper_util::rt::TokioIo;

    use super::*;

    #[tokio::test]
    async fn a_host_whose_last_idle_connection_is_taken_is_forgotten() {
        let mut hosts = Hosts::default();
        let host: Arc<str> = "https://a.example".into();
        for _ in 0..2 {
            let (near, _far) = tokio::io::duplex(64);
            let (sender, _connection) = http1::handshake(TokioIo::new(near)).await.unwrap();
            let turn = hosts.turn(&host, Instant::now() + Duration::from_secs(60));
            let idle = Idle {
                turn,
                line: Line::new(),
                sender,
            };
            hosts.by_name.entry(host.clone()).or_default().idle.push(idle);
        }
        assert!(hosts.pop(&host).is_some());
        assert_eq!((hosts.by_name.len(), hosts.turns.len()), (1, 1));
        assert!(hosts.pop(&host).is_some());
        assert!(hosts.by_name.is_empty() && hosts.turns.is_empty());
        assert!(hosts.pop(&host).is_none());
    }
}
