//! Finding the events of a batch that go to so many endpoints that they are stored apart from the others.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use shared::domain::event::Event;
use shared::shares::Owner;

use crate::endpoints::directory::Snapshot;
use crate::endpoints::subscribers::{STEPS_OF_TYPES, Subscribers};
use crate::intake::frame::{Frame, Located};
use crate::intake::plan::MAX_DELIVERIES;
use crate::slices::Slices;

/// How many deliveries each owner has in a frame.
type ByOwner = HashMap<Owner, usize>;

/// Frames whose bulky events are left for later, by sequence number, with how many deliveries these events have.
#[derive(Debug, Default)]
pub(crate) struct PutOff(Mutex<HashMap<u64, ByOwner>>);

/// An event of an organisation that may have too many deliveries.
struct Counted {
    /// The sequence number of its frame.
    sequence: u64,
    owner: Owner,
    /// The most deliveries that it can have.
    deliveries: usize,
}

impl PutOff {
    /// Takes out the events of owners that have more deliveries here than one statement writes. Of the other events, takes out
    /// those of organisations that have that many.
    pub(crate) async fn take_out(&self, events: &mut Vec<Located<'_>>, endpoints: &Snapshot) {
        let counted = count_all(events, endpoints).await;
        let owners = bulky(counted.iter().map(|event| (&event.owner, event.deliveries)));
        let others = counted.iter().filter(|event| !owners.contains(&event.owner));
        let organizations = bulky(others.map(|event| (event.owner.0, event.deliveries)));
        if owners.is_empty() && organizations.is_empty() {
            return;
        }
        let is_put_off = |owner: &Owner| owners.contains(owner) || organizations.contains(&owner.0);
        events.retain(|located| !is_put_off(&located.owner()));
        let mut frames = self.frames();
        for event in counted.iter().filter(|event| is_put_off(&event.owner)) {
            let of_frame = frames.entry(event.sequence).or_default();
            *of_frame.entry(event.owner.clone()).or_default() += event.deliveries;
        }
    }

    /// The owner of the most deliveries that were taken out of a frame. `None` when none were.
    pub(crate) fn owner(&self, frame: &Frame<'_>) -> Option<Owner> {
        let frames = self.frames();
        let by_owner = frames.get(&frame.sequence)?;
        let most = by_owner.iter().max_by_key(|(_, deliveries)| **deliveries);
        most.map(|(owner, _)| owner.clone())
    }

    fn frames(&self) -> MutexGuard<'_, HashMap<u64, ByOwner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts the deliveries of events whose organisations would have too many if all their endpoints wanted all events.
async fn count_all(events: &[Located<'_>], endpoints: &Snapshot) -> Vec<Counted> {
    let all = |event: &Event<'_>| endpoints.of(event).map(Subscribers::len).sum();
    let at_most = bulky(
        events
            .iter()
            .map(|located| (located.event.org_id, all(&located.event))),
    );
    let (mut slices, mut counted) = (Slices::new(), Vec::new());
    for located in events {
        if at_most.contains(&located.event.org_id) {
            slices.spend(all(&located.event) * STEPS_OF_TYPES).await;
            counted.push(Counted {
                sequence: located.frame.sequence,
                owner: located.owner(),
                deliveries: count(&located.event, endpoints),
            });
        }
    }
    counted
}

/// The most deliveries that an event can have.
fn count(event: &Event<'_>, endpoints: &Snapshot) -> usize {
    if event.only_to.is_some() {
        return 1;
    }
    let counts = endpoints
        .of(event)
        .map(|subscribers| subscribers.count(event.event_type));
    counts.sum()
}

/// The keys whose deliveries together are too many for one statement.
fn bulky<K: Eq + Hash>(counts: impl Iterator<Item = (K, usize)>) -> HashSet<K> {
    let mut sums = HashMap::<_, usize>::new();
    for (key, deliveries) in counts {
        *sums.entry(key).or_default() += deliveries;
    }
    sums.retain(|_, deliveries| *deliveries > MAX_DELIVERIES);
    sums.into_keys().collect()
}
