//! When to look at which endpoint, so that a claim costs as much as is due, not as much as waits.
//!
//! Each look at an endpoint's rows tells when the next row is due, and the worker notes what it writes itself. Rows of others
//! (a worker that died, a replay through the API) are found by a walk over all endpoints with pending rows. The walk is
//! slow on purpose: a worker spends a small part of its time on it.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::time::Duration;

use shared::domain::id::EndpointId;
use tokio::time::Instant;

use super::survey::Waiting;

/// The pause after a part of the walk is this many times as long as the part took.
const WALK_PAUSE: u32 = 30;

/// It is no longer than this: when Postgres has stood still for some seconds, the next part does not wait for minutes.
const LONGEST_WALK_PAUSE: Duration = Duration::from_secs(10);

/// Pause before an endpoint that is disabled or unknown is looked at again.
const PUT_OFF: Duration = Duration::from_secs(1);

/// When each endpoint with pending rows is to be looked at.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    entries: HashMap<EndpointId, Entry>,
    by_time: BTreeSet<(Instant, EndpointId)>,
    /// Endpoints whose entries have changed since [`Agenda::take_without_due`].
    changed: HashSet<EndpointId>,
    walk: Walk,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    look_at: Instant,
    /// A delivery without an ordering key is due, and the endpoint's circuit is closed.
    has_due: bool,
    /// When its rows were last looked at.
    looked: Instant,
}

#[derive(Debug, Default)]
struct Walk {
    /// The endpoint after which it goes on; `None` is the start.
    after: Option<EndpointId>,
    /// When this round began.
    began: Option<Instant>,
    rounds: usize,
    /// When it may go on.
    next: Option<Instant>,
}

/// The endpoint after which the walk goes on; `None` is the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct WalkFrom(pub Option<EndpointId>);

impl Agenda {
    /// Looks at the endpoint at `look_at`, or earlier.
    pub(super) fn note(&mut self, id: EndpointId, look_at: Instant, now: Instant) {
        let known = self.entries.get(&id).copied();
        if known.is_none_or(|known| look_at < known.look_at) {
            let has_due = known.is_some_and(|known| known.has_due);
            let looked = known.map_or(now, |known| known.looked);
            self.insert(
                id,
                Entry {
                    look_at,
                    has_due,
                    looked,
                },
            );
        }
    }

    /// Endpoints whose rows were looked at since the last call, and that have no due delivery left: another worker may have
    /// taken the last one. Costs as much as has changed: a delivery that makes an endpoint backlogged is noted too.
    pub(super) fn take_without_due(&mut self) -> Vec<EndpointId> {
        let changed = std::mem::take(&mut self.changed);
        changed.into_iter().filter(|id| !self.has_due(*id)).collect()
    }

    fn insert(&mut self, id: EndpointId, entry: Entry) {
        self.remove(id);
        self.by_time.insert((entry.look_at, id));
        self.entries.insert(id, entry);
    }

    fn remove(&mut self, id: EndpointId) {
        self.changed.insert(id);
        if let Some(entry) = self.entries.remove(&id) {
            self.by_time.remove(&(entry.look_at, id));
        }
    }

    /// Up to `most` endpoints that are to be looked at by now and that `may_be_sent`, those first that have waited for it
    /// the longest. Endpoints for which it returns `None` are put off.
    pub(super) fn due(
        &mut self,
        now: Instant,
        most: usize,
        may_be_sent: impl Fn(EndpointId) -> Option<bool>,
    ) -> Vec<EndpointId> {
        let (mut due, mut put_off) = (Vec::new(), Vec::new());
        for &(_, id) in self.by_time.iter().take_while(|(look_at, _)| *look_at <= now) {
            match may_be_sent(id) {
                Some(true) if due.len() == most => break,
                Some(true) => due.push(id),
                Some(false) => {}
                None => put_off.push(id),
            }
        }
        for id in put_off {
            if let Some(&entry) = self.entries.get(&id) {
                let look_at = now + PUT_OFF;
                self.insert(
                    id,
                    Entry {
                        look_at,
                        has_due: false,
                        ..entry
                    },
                );
            }
        }
        due
    }

    /// What a look at endpoints at `now` has found.
    pub(super) fn looked(&mut self, now: Instant, found: &[Waiting]) {
        for waiting in found {
            let Some(look_in) = waiting.next_look() else {
                self.remove(waiting.endpoint_id);
                continue;
            };
            let entry = Entry {
                look_at: now.checked_add(look_in).unwrap_or(now),
                has_due: waiting.has_due() && !waiting.is_probe(),
                looked: now,
            };
            self.insert(waiting.endpoint_id, entry);
        }
    }

    /// Whether a delivery without an ordering key is due.
    pub(super) fn has_due(&self, id: EndpointId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.has_due)
    }

    /// Where the walk goes on, if it may by now: after that endpoint. The first round goes through without a pause.
    pub(super) fn next_walk(&mut self, now: Instant) -> Option<WalkFrom> {
        if self.walk.next.is_some_and(|next| now < next) {
            return None;
        }
        self.walk.began.get_or_insert(now);
        Some(WalkFrom(self.walk.after))
    }

    /// Whether the walk has never come to its end.
    pub(super) fn is_first_round(&self) -> bool {
        self.walk.rounds == 0
    }

    /// The walk has found these endpoints, one after the other, in the time from `now` on; no others follow unless
    /// `is_full`. What is not known then any more and `is_enabled` neither, is forgotten.
    pub(super) fn walked(
        &mut self,
        now: Instant,
        found: &[EndpointId],
        is_full: bool,
        is_enabled: impl Fn(EndpointId) -> bool,
    ) {
        for id in found {
            self.note(*id, now, now);
        }
        if is_full {
            self.walk.after = found.last().copied();
        } else {
            self.walk.after = None;
            self.walk.rounds += 1;
            let began = self.walk.began.take().unwrap_or(now);
            let gone = self.entries.iter();
            let gone = gone.filter(|(id, entry)| entry.looked < began && !is_enabled(**id));
            for id in gone.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.remove(id);
            }
        }
        if self.walk.rounds > 0 {
            self.walk.next = Some(Instant::now() + (now.elapsed() * WALK_PAUSE).min(LONGEST_WALK_PAUSE));
        }
    }
}

#[cfg(test)]
mod tests;
