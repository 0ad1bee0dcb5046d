//! Which events of a batch go to so many endpoints that they are stored apart from the others.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};

use shared::domain::event::Event;
use shared::domain::id::OrgId;

use crate::endpoints::directory::Snapshot;
use crate::endpoints::subscribers::{STEPS_OF_TYPES, Subscribers};
use crate::intake::frame::{Frame, Located};
use crate::intake::plan::MAX_DELIVERIES;
use crate::slices::Slices;

/// Frames whose bulky events are left for later.
#[derive(Debug, Default)]
pub(crate) struct PutOff(Mutex<HashSet<u64>>);

impl PutOff {
    /// Takes out the events of organisations that have more deliveries among these than one statement writes.
    pub(crate) async fn take_out(&self, events: &mut Vec<Located<'_>>, endpoints: &Snapshot) {
        let all = |event: &Event<'_>| endpoints.of(event).map(Subscribers::len).sum();
        let at_most = bulky(
            events
                .iter()
                .map(|located| (located.event.org_id, all(&located.event))),
        );
        if at_most.is_empty() {
            return;
        }
        let (mut slices, mut counts) = (Slices::new(), Vec::new());
        for Located { event, .. } in &*events {
            if at_most.contains(&event.org_id) {
                slices.spend(all(event) * STEPS_OF_TYPES).await;
                counts.push((event.org_id, count(event, endpoints)));
            }
        }
        let bulky = bulky(counts.into_iter());
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let put_off = events.extract_if(.., |located| bulky.contains(&located.event.org_id));
        frames.extend(put_off.map(|located| located.frame.sequence));
    }

    /// Whether something of a frame was taken out.
    pub(crate) fn contains(&self, frame: &Frame<'_>) -> bool {
        let frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.contains(&frame.sequence)
    }
}

/// The deliveries of an event at the most.
fn count(event: &Event<'_>, endpoints: &Snapshot) -> usize {
    if event.only_to.is_some() {
        return 1;
    }
    let counts = endpoints
        .of(event)
        .map(|subscribers| subscribers.count(event.event_type));
    counts.sum()
}

/// The organisations whose deliveries are too many for one statement.
fn bulky(counts: impl Iterator<Item = (OrgId, usize)>) -> HashSet<OrgId> {
    let mut sums = HashMap::<_, usize>::new();
    for (org_id, deliveries) in counts {
        *sums.entry(org_id).or_default() += deliveries;
    }
    sums.retain(|_, deliveries| *deliveries > MAX_DELIVERIES);
    sums.into_keys().collect()
}
