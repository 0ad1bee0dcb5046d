//! Events by one of their times: those that were stored in time by that of their acceptance, late ones by that of their storing.
//!
//! A look goes back as far as a slow statement may still store events, and finds the newest. Those that it passes over are
//! counted at once. Each second is counted again when no look goes back to it any more: by then all that belongs there is
//! stored. So an event is told, or counted, whenever it is stored.

use std::collections::{BTreeMap, HashSet};
use std::mem;
use std::ops::Range;

use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use crate::domain::access::realm::Realm;
use crate::store::{Arrival, LATE, Seconds, TailLook, TailedEvent};

/// How many seconds a look goes back. An event in time is committed at most [`LATE`] and one statement of a worker after its
/// acceptance: 20 s, unless its `STATEMENT_TIMEOUT` is longer, and some seconds until Postgres notices that nobody waits any more.
const LOOK_BACK: i64 = 30;

/// Most events that a look finds.
const MOST_EVENTS: usize = 500;

/// How far the events of one arrival were told.
#[derive(Debug)]
pub(super) struct Strand {
    arrival: Arrival,
    /// Only those of this tenant are told, if there is one.
    tenant: Option<Tenant>,
    /// Events that were stored before are not told.
    begun: OffsetDateTime,
    /// The second from which on looks find events. Those before it are told or counted.
    settled: i64,
    /// How many of each later second were told or counted.
    known: BTreeMap<i64, i64>,
    /// What the last look found.
    seen: HashSet<EventId>,
    /// Events before this one are counted and not told: a look has passed them over.
    horizon: Option<Key>,
    /// The newest time that was found.
    newest: OffsetDateTime,
}

/// What the order of a strand goes by.
type Key = (OffsetDateTime, EventId);

/// What is new.
#[derive(Debug, Default)]
pub(super) struct News {
    /// To be told.
    pub events: Vec<TailedEvent>,
    /// How many others there are.
    pub skipped: u64,
    /// Whether there are more than these, which were not counted.
    pub has_uncounted: bool,
}

/// The seconds whose events are to be counted. A stretch may be empty.
#[derive(Debug)]
struct Asked {
    /// Between those that were found before and those that are found now.
    passed: Range<i64>,
    /// Those that later looks do not find.
    left: Range<i64>,
}

fn second(time: OffsetDateTime) -> i64 {
    time.unix_timestamp()
}

fn time_of(second: i64) -> OffsetDateTime {
    UnixMicros::new(second.saturating_mul(1_000_000)).to_date_time()
}

impl Strand {
    /// Tells what is stored from `begun` on, by the clock of Postgres.
    pub(super) fn new(arrival: Arrival, realm: &Realm, begun: OffsetDateTime) -> Self {
        let from = match arrival {
            Arrival::InTime => begun - LATE,
            Arrival::Late => begun,
        };
        Self {
            arrival,
            tenant: realm.tenant.clone(),
            begun,
            settled: second(from),
            known: BTreeMap::new(),
            seen: HashSet::new(),
            horizon: None,
            newest: from,
        }
    }

    /// What is new in this look.
    ///
    /// # Errors
    /// When Postgres does not answer. Then it is still new in the next look.
    pub(super) async fn take_turn(&mut self, look: &mut TailLook<'_>) -> Result<News, sqlx::Error> {
        let from = time_of(self.settled);
        let found = look.events(self.arrival, from, MOST_EVENTS).await?;
        let asked = self.ask(&found, look.now());
        let passed = self.count(look, &asked.passed).await?;
        let left = self.count(look, &asked.left).await?;
        Ok(self.take(found, &asked, [passed, left], look.now()))
    }

    async fn count(&self, look: &mut TailLook<'_>, seconds: &Range<i64>) -> Result<Seconds, sqlx::Error> {
        if seconds.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let times = time_of(seconds.start)..time_of(seconds.end);
        look.count(self.arrival, self.begun, times).await
    }

    /// Which seconds must be counted: none while looks find all that there is.
    fn ask(&mut self, found: &[TailedEvent], now: OffsetDateTime) -> Asked {
        let mut passed = 0..0;
        if found.len() >= MOST_EVENTS {
            let first = found.first().map(|event| self.key(event));
            self.horizon = self.horizon.max(first);
            if let Some((at, _)) = first.filter(|(at, _)| *at > self.newest) {
                let end = second(at) + 1;
                passed = self.settled.max(second(self.newest))..end;
            }
        }
        let is_hidden = self.horizon.is_some_and(|(at, _)| second(at) >= self.settled);
        let left = if is_hidden {
            self.settled..self.settled_at(now)
        } else {
            0..0
        };
        Asked { passed, left }
    }

    fn take(
        &mut self,
        found: Vec<TailedEvent>,
        asked: &Asked,
        [passed, left]: [Seconds; 2],
        now: OffsetDateTime,
    ) -> News {
        let mut news = News::default();
        let ids = found.iter().map(|event| event.id).collect();
        let seen = mem::replace(&mut self.seen, ids);
        for event in found {
            let key = self.key(&event);
            // An event with the time of a wrong clock is told, and does not hide those of right ones.
            self.newest = self.newest.max(key.0.min(now));
            let is_passed = self.horizon.is_some_and(|horizon| key < horizon);
            if !is_passed && !seen.contains(&event.id) && self.wants(&event) {
                let known = self.known.entry(second(key.0)).or_default();
                *known = known.saturating_add(1);
                news.events.push(event);
            }
        }
        if passed.is_none() {
            // None of these is counted later: nobody knows how many there are.
            let last = asked.passed.end - 1;
            self.settled = self.settled.max(last);
            self.known.insert(last, i64::MAX);
        }
        self.learn(passed, &mut news);
        self.learn(left, &mut news);
        self.settled = self.settled_at(now);
        self.known = self.known.split_off(&self.settled);
        news
    }

    /// Takes in how many events there are in some seconds.
    fn learn(&mut self, seconds: Seconds, news: &mut News) {
        let Some(seconds) = seconds else {
            news.has_uncounted = true;
            return;
        };
        for (second, count) in seconds {
            let known = self.known.entry(second).or_default();
            if count > *known {
                news.skipped += (count - *known).unsigned_abs();
                *known = count;
            }
        }
    }

    fn settled_at(&self, now: OffsetDateTime) -> i64 {
        self.settled.max(second(now) - LOOK_BACK)
    }

    fn key(&self, event: &TailedEvent) -> Key {
        let at = match self.arrival {
            Arrival::InTime => event.accepted_at,
            Arrival::Late => event.stored_at,
        };
        (at, event.id)
    }

    fn wants(&self, event: &TailedEvent) -> bool {
        let is_of_tenant = |tenant: &Tenant| event.tenant.as_deref() == Some(tenant.as_str());
        event.arrival() == self.arrival
            && event.stored_at >= self.begun
            && self.tenant.as_ref().is_none_or(is_of_tenant)
    }
}

#[cfg(test)]
mod tests;
