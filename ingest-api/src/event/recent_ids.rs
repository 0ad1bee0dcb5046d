//! The deduplication ids that this replica has accepted lately.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use shared::domain::id::EventId;

/// How long an id is remembered.
const WINDOW: Duration = Duration::from_hours(24);

/// Most ids in memory, of about 100 bytes each; beyond them the oldest is forgotten.
const MOST: usize = 100_000;

/// Events that came with a deduplication id, by the id that was derived from it.
#[derive(Debug, Default)]
pub(crate) struct RecentIds(Mutex<Recent>);

#[derive(Debug, Default)]
struct Recent {
    accepted: HashMap<EventId, Instant>,
    // Each entry of the map, oldest first.
    order: VecDeque<(EventId, Instant)>,
}

impl RecentIds {
    /// Whether an event was accepted within 24 hours before `now`, as far as is known.
    pub(crate) fn holds(&self, id: EventId, now: Instant) -> bool {
        let recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let accepted = recent.accepted.get(&id);
        accepted.is_some_and(|accepted| now.duration_since(*accepted) < WINDOW)
    }

    /// Remembers an event that was accepted. The time of the first acceptance counts.
    pub(crate) fn remember(&self, id: EventId, now: Instant) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = &mut *recent;
        recent.make_room(now);
        if let Entry::Vacant(free) = recent.accepted.entry(id) {
            free.insert(now);
            recent.order.push_back((id, now));
        }
    }
}

impl Recent {
    /// Forgets what is too old, and the oldest when there is no room for another.
    fn make_room(&mut self, now: Instant) {
        while let Some((id, accepted)) = self.order.front() {
            if now.duration_since(*accepted) < WINDOW && self.order.len() < MOST {
                return;
            }
            self.accepted.remove(id);
            self.order.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::domain::id::OrgId;
    use uuid::Uuid;

    use super::*;

    fn id(number: u128) -> EventId {
        Uuid::from_u128(number).into()
    }

    #[test]
    fn the_window_begins_with_the_first_acceptance() {
        let (recent, start) = (RecentIds::default(), Instant::now());
        let (event, almost) = (
            EventId::for_key(OrgId::generate(), None, "a"),
            Duration::from_nanos(1),
        );
        assert!(!recent.holds(event, start));
        recent.remember(event, start);
        recent.remember(event, start + WINDOW / 2);
        assert!(recent.holds(event, start + WINDOW.saturating_sub(almost)));
        assert!(!recent.holds(event, start + WINDOW));
        recent.remember(event, start + WINDOW);
        assert!(recent.holds(event, start + WINDOW + almost));
    }

    #[test]
    fn the_oldest_is_forgotten_when_there_is_no_room() {
        let (recent, now) = (RecentIds::default(), Instant::now());
        for number in 0..=MOST {
            recent.remember(id(number as u128), now);
        }
        assert!(!recent.holds(id(0), now) && recent.holds(id(1), now));
        assert_eq!(recent.0.lock().unwrap().accepted.len(), MOST);
    }

    proptest! {
        /// Whatever the pattern: what it holds was accepted within the window, and both collections stay in step.
        #[test]
        fn nothing_is_held_beyond_its_window(steps in proptest::collection::vec((0u128..20, 0u64..30_000), 1..200)) {
            let (recent, mut now) = (RecentIds::default(), Instant::now());
            let mut first = HashMap::new();
            for (number, seconds) in steps {
                now += Duration::from_secs(seconds);
                let known = first.get(&number).is_some_and(|at| now.duration_since(*at) < WINDOW);
                prop_assert_eq!(recent.holds(id(number), now), known);
                recent.remember(id(number), now);
                if !known {
                    first.insert(number, now);
                }
                let recent = recent.0.lock().unwrap();
                prop_assert_eq!(recent.accepted.len(), recent.order.len());
            }
        }
    }
}
