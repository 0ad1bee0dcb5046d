//! How far a realm was told of, and what of it is new.
//!
//! Events are found by the time of their acceptance, which is not the order in which workers store them. So each look goes
//! back a little beyond the last one, and leaves out what was told already.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, EventId};
use time::OffsetDateTime;
use tokio::time::Instant;

use super::item::Item;
use crate::domain::realm::Realm;
use crate::store::{EventPlace, Store, TailedDelivery, TailedEvent};

/// How far a look goes back beyond the newest event of the last one.
const LOOK_BACK: Duration = Duration::from_secs(10);

/// Most events that a look finds. Whatever is between these and the last look is counted and not told.
const MOST_EVENTS: usize = 500;

/// Ids of events that were told: more than a look finds.
const MOST_SEEN: usize = 4 * MOST_EVENTS;

/// Most events whose deliveries are looked at, and most deliveries of each.
const MOST_OPEN: usize = 300;
const DELIVERIES_OF_EACH: i64 = 10;

/// An event's deliveries are stored with it, and its endpoints take them at once.
const SETTLED: Duration = Duration::from_secs(5);

/// How long the deliveries of an event are looked at.
const LONGEST: Duration = Duration::from_mins(10);

/// How far a realm was told of.
#[derive(Debug)]
pub(super) struct Following {
    realm: Realm,
    /// Events that were accepted before are not told.
    begun: OffsetDateTime,
    /// The newest event so far.
    newest: OffsetDateTime,
    seen: Seen,
    open: VecDeque<Open>,
}

/// Ids of the events that were told last.
#[derive(Debug, Default)]
struct Seen {
    ids: HashSet<EventId>,
    order: VecDeque<EventId>,
}

impl Seen {
    /// Whether it was not there.
    fn add(&mut self, id: EventId) -> bool {
        if !self.ids.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > MOST_SEEN
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// An event whose deliveries may still be tried.
#[derive(Debug)]
struct Open {
    event: TailedEvent,
    since: Instant,
    /// Attempts that were told, by endpoint.
    told: HashMap<EndpointId, i32>,
}

impl Open {
    /// Adds the attempts that are new. False when nothing more is to come.
    fn take(&mut self, deliveries: &[TailedDelivery], now: Instant, items: &mut Vec<Item>) -> bool {
        for delivery in deliveries {
            let told = self.told.entry(delivery.endpoint_id).or_default();
            let missed = delivery.attempts - *told - 1;
            if missed < 0 {
                continue;
            }
            if missed > 0 {
                items.push(Item::skipped(u64::from(missed.unsigned_abs())));
            }
            items.push(Item::attempt(&self.event, delivery));
            *told = delivery.attempts;
        }
        let age = now.saturating_duration_since(self.since);
        let is_pending = deliveries
            .iter()
            .any(|delivery| delivery.status == DeliveryStatus::Pending);
        age < SETTLED || is_pending && age < LONGEST
    }
}

impl Following {
    /// Tells what is accepted from `now` on.
    pub(super) fn new(realm: Realm, now: OffsetDateTime) -> Self {
        Self {
            realm,
            begun: now,
            newest: now,
            seen: Seen::default(),
            open: VecDeque::new(),
        }
    }

    /// What is new since the last turn.
    pub(super) async fn take_turn(
        &mut self,
        store: &Store,
        now: OffsetDateTime,
    ) -> Result<Vec<Item>, sqlx::Error> {
        let mut items = self.new_events(store, now).await?;
        let places: Vec<_> = self.open.iter().map(|open| self.place(open)).collect();
        if !places.is_empty() {
            let rows = store
                .tail_deliveries(&self.realm, &places, DELIVERIES_OF_EACH)
                .await?;
            self.take_deliveries(rows, &mut items);
        }
        Ok(items)
    }

    async fn new_events(&mut self, store: &Store, now: OffsetDateTime) -> Result<Vec<Item>, sqlx::Error> {
        let from = (self.newest - LOOK_BACK).max(self.begun);
        let rows = store.tail_events(&self.realm, from, MOST_EVENTS).await?;
        let mut items = Vec::new();
        if let Some(first) = rows
            .first()
            .filter(|first| rows.len() >= MOST_EVENTS && first.accepted_at > self.newest)
        {
            let between = store.count_events(&self.realm, self.newest, first.accepted_at);
            let between = between.await?;
            if between > 0 {
                items.push(Item::skipped(between.unsigned_abs()));
            }
        }
        for event in rows {
            // An event with the time of a wrong clock is told, and does not hide those of right ones.
            self.newest = self.newest.max(event.accepted_at.min(now));
            if self.seen.add(event.id) {
                items.push(Item::event(&event));
                self.follow(event);
            }
        }
        Ok(items)
    }

    fn follow(&mut self, event: TailedEvent) {
        self.open.push_back(Open {
            event,
            since: Instant::now(),
            told: HashMap::new(),
        });
        if self.open.len() > MOST_OPEN {
            self.open.pop_front();
        }
    }

    fn place(&self, open: &Open) -> EventPlace {
        EventPlace {
            org_id: self.realm.org_id,
            id: open.event.id,
            accepted_at: open.event.accepted_at,
        }
    }

    fn take_deliveries(&mut self, rows: Vec<TailedDelivery>, items: &mut Vec<Item>) {
        let mut of_events: HashMap<EventId, Vec<TailedDelivery>> = HashMap::new();
        for row in rows {
            of_events.entry(row.event_id).or_default().push(row);
        }
        let now = Instant::now();
        self.open.retain_mut(|open| {
            let deliveries = of_events.remove(&open.event.id).unwrap_or_default();
            open.take(&deliveries, now, items)
        });
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::clock::UnixMicros;
    use shared::domain::delivery::Outcome;
    use shared::domain::id::OrgId;

    use super::*;

    fn event() -> TailedEvent {
        let now = UnixMicros::now();
        TailedEvent {
            id: EventId::at(now),
            accepted_at: now.to_date_time(),
            event_type: "order.created".to_owned(),
            tenant: None,
        }
    }

    fn delivery(event: &TailedEvent, endpoint_id: EndpointId, attempts: i32) -> TailedDelivery {
        TailedDelivery {
            event_id: event.id,
            endpoint_id,
            status: DeliveryStatus::Pending,
            attempts,
            last_outcome: (attempts > 0).then_some(Outcome::Status),
            response_status: None,
            started_at: None,
            duration_ms: None,
        }
    }

    #[test]
    fn each_attempt_is_told_once_and_those_between_two_looks_are_counted() {
        let now = UnixMicros::now().to_date_time();
        let mut following = Following::new(Realm::of_organization(OrgId::generate()), now);
        let (event, endpoint) = (event(), EndpointId::generate());
        let attempts = [0, 1, 1, 4].map(|attempts| delivery(&event, endpoint, attempts));
        following.follow(event);
        let told = attempts.map(|row| {
            let mut items = Vec::new();
            following.take_deliveries(vec![row], &mut items);
            items.iter().map(|item| item.kind).collect::<Vec<_>>()
        });
        assert_eq!(told[..3], [vec![], vec!["attempt"], vec![]]);
        assert_eq!(told[3], ["skipped", "attempt"]);
    }

    #[test]
    fn an_event_is_followed_until_its_deliveries_have_ended() {
        let endpoint = EndpointId::generate();
        let mut open = Open {
            event: event(),
            since: Instant::now(),
            told: HashMap::new(),
        };
        let pending = [delivery(&open.event, endpoint, 1)];
        let ended = [TailedDelivery {
            status: DeliveryStatus::Delivered,
            ..delivery(&open.event, endpoint, 1)
        }];
        let mut goes_on = |deliveries: &[TailedDelivery], after: Duration| {
            let now = open.since + after;
            open.take(deliveries, now, &mut Vec::new())
        };
        assert!(goes_on(&ended, Duration::ZERO));
        assert!(!goes_on(&ended, SETTLED));
        assert!(!goes_on(&[], SETTLED));
        assert!(goes_on(&pending, SETTLED));
        assert!(!goes_on(&pending, LONGEST));
    }

    #[test]
    fn an_event_is_new_once_until_many_others_came() {
        let mut seen = Seen::default();
        let first = event().id;
        assert!(seen.add(first) && !seen.add(first));
        for _ in 0..MOST_SEEN {
            seen.add(event().id);
        }
        assert_eq!((seen.ids.len(), seen.order.len()), (MOST_SEEN, MOST_SEEN));
        assert!(seen.add(first));
    }
}
