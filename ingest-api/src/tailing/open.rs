//! Events whose deliveries may still be tried, and which of their attempts were told.

use std::collections::{HashMap, VecDeque};
use std::mem;
use std::time::Duration;

use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, EventId, OrgId};
use tokio::time::Instant;

use super::item::Item;
use crate::store::{EventPlace, TailedDelivery, TailedEvent};

/// Most events whose deliveries are looked at.
const MOST_OPEN: usize = 300;

/// Most deliveries of each whose attempts are told.
const DELIVERIES_OF_EACH: usize = 10;

/// How many of each are read: one more shows that there are others.
pub(super) const READ_OF_EACH: i64 = 11;

/// An event's deliveries are stored with it, and its endpoints take them at once.
const SETTLED: Duration = Duration::from_secs(5);

/// How long the deliveries of an event are looked at.
const LONGEST: Duration = Duration::from_mins(10);

/// The events that were told last.
#[derive(Debug, Default)]
pub(super) struct OpenEvents {
    events: VecDeque<Open>,
    /// Whether attempts of such events may not be told, which is not said yet.
    may_lack: bool,
}

/// An event whose deliveries may still be tried.
#[derive(Debug)]
struct Open {
    event: TailedEvent,
    since: Instant,
    /// Attempts that were told, by endpoint.
    told: HashMap<EndpointId, i32>,
    /// Whether any may come, as far as is known.
    is_pending: bool,
    /// Whether it has more deliveries than those whose attempts are told.
    is_told_in_part: bool,
}

/// What becomes of an event after a look at its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlook {
    /// They are looked at again.
    GoesOn,
    /// Nothing more is to come.
    Ended,
    /// Attempts that come later are not told.
    GivenUp,
}

impl Open {
    fn new(event: TailedEvent, since: Instant) -> Self {
        Self {
            event,
            since,
            told: HashMap::new(),
            is_pending: true,
            is_told_in_part: false,
        }
    }

    /// Adds the attempts that are new.
    fn take(&mut self, deliveries: &[TailedDelivery], now: Instant, items: &mut Vec<Item>) -> Outlook {
        for delivery in deliveries {
            let told = self.told.entry(delivery.endpoint_id).or_default();
            let missed = delivery.attempts - *told - 1;
            if missed < 0 {
                continue;
            }
            if missed > 0 {
                items.push(Item::skipped(Some(u64::from(missed.unsigned_abs()))));
            }
            items.push(Item::attempt(&self.event, delivery));
            *told = delivery.attempts;
        }
        let age = now.saturating_duration_since(self.since);
        self.is_pending = deliveries
            .iter()
            .any(|delivery| delivery.status == DeliveryStatus::Pending);
        let patience = if self.is_pending { LONGEST } else { SETTLED };
        if age < patience {
            Outlook::GoesOn
        } else if self.is_pending {
            Outlook::GivenUp
        } else {
            Outlook::Ended
        }
    }
}

impl OpenEvents {
    /// Adds an event that is told.
    pub(super) fn follow(&mut self, event: TailedEvent) {
        self.events.push_back(Open::new(event, Instant::now()));
        if self.events.len() > MOST_OPEN
            && let Some(oldest) = self.events.pop_front()
        {
            self.may_lack |= oldest.is_pending;
        }
    }

    /// Where the events are stored whose deliveries are to be looked at.
    pub(super) fn places(&self, org_id: OrgId) -> Vec<EventPlace> {
        let place = |open: &Open| EventPlace {
            org_id,
            id: open.event.id,
            accepted_at: open.event.accepted_at,
        };
        self.events.iter().map(place).collect()
    }

    /// Takes in up to [`READ_OF_EACH`] deliveries of each event, and adds the attempts that are new.
    pub(super) fn take(&mut self, rows: Vec<TailedDelivery>, items: &mut Vec<Item>) {
        self.take_at(Instant::now(), rows, items);
    }

    fn take_at(&mut self, now: Instant, rows: Vec<TailedDelivery>, items: &mut Vec<Item>) {
        let mut of_events: HashMap<EventId, Vec<TailedDelivery>> = HashMap::new();
        for row in rows {
            of_events.entry(row.event_id).or_default().push(row);
        }
        let may_lack = &mut self.may_lack;
        self.events.retain_mut(|open| {
            let mut deliveries = of_events.remove(&open.event.id).unwrap_or_default();
            if deliveries.len() > DELIVERIES_OF_EACH {
                deliveries.truncate(DELIVERIES_OF_EACH);
                *may_lack |= !mem::replace(&mut open.is_told_in_part, true);
            }
            let outlook = open.take(&deliveries, now, items);
            *may_lack |= outlook == Outlook::GivenUp;
            outlook == Outlook::GoesOn
        });
        if mem::take(may_lack) {
            items.push(Item::skipped(None));
        }
    }
}

#[cfg(test)]
mod tests {
    use shared::domain::clock::UnixMicros;
    use shared::domain::delivery::Outcome;

    use super::*;

    fn event() -> TailedEvent {
        let now = UnixMicros::now();
        TailedEvent {
            id: EventId::at(now),
            accepted_at: now.to_date_time(),
            stored_at: now.to_date_time(),
            event_type: "order.created".to_owned(),
            tenant: None,
        }
    }

    fn delivery(id: EventId, endpoint_id: EndpointId, attempts: i32) -> TailedDelivery {
        TailedDelivery {
            event_id: id,
            endpoint_id,
            status: DeliveryStatus::Pending,
            attempts,
            last_outcome: (attempts > 0).then_some(Outcome::Status),
            response_status: None,
            started_at: None,
            duration_ms: None,
        }
    }

    /// The kinds of what is told after a look.
    fn told(open: &mut OpenEvents, now: Instant, rows: Vec<TailedDelivery>) -> Vec<&'static str> {
        let mut items = Vec::new();
        open.take_at(now, rows, &mut items);
        items.iter().map(|item| item.kind).collect()
    }

    #[test]
    fn each_attempt_is_told_once_and_those_between_two_looks_are_counted() {
        let mut open = OpenEvents::default();
        let (event, endpoint) = (event(), EndpointId::generate());
        let rows = [0, 1, 1, 4].map(|attempts| delivery(event.id, endpoint, attempts));
        open.follow(event);
        let told = rows.map(|row| told(&mut open, Instant::now(), vec![row]));
        assert_eq!(told[..3], [vec![], vec!["attempt"], vec![]]);
        assert_eq!(told[3], ["skipped", "attempt"]);
    }

    #[test]
    fn an_event_is_followed_until_its_deliveries_have_ended() {
        let endpoint = EndpointId::generate();
        let mut open = Open::new(event(), Instant::now());
        let pending = [delivery(open.event.id, endpoint, 1)];
        let ended = [TailedDelivery {
            status: DeliveryStatus::Delivered,
            ..delivery(open.event.id, endpoint, 1)
        }];
        let mut after = |deliveries: &[TailedDelivery], age: Duration| {
            let now = open.since + age;
            open.take(deliveries, now, &mut Vec::new())
        };
        assert_eq!(after(&ended, Duration::ZERO), Outlook::GoesOn);
        assert_eq!(after(&ended, SETTLED), Outlook::Ended);
        assert_eq!(after(&[], SETTLED), Outlook::Ended);
        assert_eq!(after(&pending, SETTLED), Outlook::GoesOn);
        assert_eq!(after(&pending, LONGEST), Outlook::GivenUp);
    }

    #[test]
    fn that_attempts_are_not_told_any_more_is_told_once() {
        let (mut open, now) = (OpenEvents::default(), Instant::now());
        let long = event();
        let row = |attempts| delivery(long.id, EndpointId::generate(), attempts);
        open.follow(long.clone());
        assert!(told(&mut open, now, vec![row(0)]).is_empty());
        let later = Instant::now() + LONGEST;
        assert_eq!(told(&mut open, later, vec![row(0)]), ["skipped"]);
        assert!(open.places(OrgId::generate()).is_empty());

        let many: Vec<_> = (0..READ_OF_EACH).map(|_| row(0)).collect();
        open.follow(long.clone());
        assert_eq!(told(&mut open, now, many), ["skipped"]);
        let many = (0..READ_OF_EACH).map(|_| row(0)).collect();
        assert!(told(&mut open, now, many).is_empty());
    }

    #[test]
    fn an_event_that_makes_room_is_missed_only_while_it_may_be_tried() {
        let (mut open, now) = (OpenEvents::default(), Instant::now());
        open.follow(event());
        assert!(told(&mut open, now, Vec::new()).is_empty());
        for _ in 0..MOST_OPEN {
            open.follow(event());
        }
        assert!(told(&mut open, now, Vec::new()).is_empty());
        // One that was not looked at makes room too.
        for _ in 0..=MOST_OPEN {
            open.follow(event());
        }
        assert_eq!(told(&mut open, now, Vec::new()), ["skipped"]);
        assert_eq!(open.places(OrgId::generate()).len(), MOST_OPEN);
    }
}
