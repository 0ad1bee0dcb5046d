//! Finding the events of a batch that go to so many endpoints that they are stored apart from the others.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_nats::jetstream::Message;
use shared::domain::event::Event;
use shared::domain::id::OrgId;
use shared::shares::Owner;

use crate::endpoints::directory::Snapshot;
use crate::endpoints::subscribers::{STEPS_OF_TYPES, Subscribers};
use crate::intake::early::Early;
use crate::intake::frame::{Frame, Located};
use crate::intake::plan::MAX_DELIVERIES;
use crate::slices::Slices;

/// How many deliveries each owner has in a frame.
type ByOwner = HashMap<Owner, usize>;

/// Frames whose bulky events are left for later, by sequence number, with how many deliveries these events have.
#[derive(Debug, Default)]
pub(crate) struct PutOff(Mutex<HashMap<u64, ByOwner>>);

/// Frames that are stored apart, together: one, or several with no more deliveries than one statement writes.
#[derive(Debug)]
pub(crate) struct Bundle<'a> {
    /// Whose most of their deliveries are.
    pub owner: Owner,
    /// The frames.
    pub messages: Vec<&'a Message>,
    deliveries: usize,
}

/// An event of an organisation that may have too many deliveries.
struct Counted {
    /// The sequence number of its frame.
    sequence: u64,
    owner: Owner,
    /// The most deliveries that it can have.
    deliveries: usize,
}

impl PutOff {
    /// Leaves each owner, and each organisation, no more deliveries than one statement writes: takes out the events of a frame
    /// with which its owner would have more, and that owner's in the frames after it. What has begun `early` stays: there may be
    /// more endpoints than there were then, and whoever stores the frame later knows nothing of its attempts.
    pub(crate) async fn take_out(
        &self,
        events: &mut Vec<Located<'_>>,
        endpoints: &Snapshot,
        early: Option<&Early>,
    ) {
        let put_off = too_many(&count_all(events, endpoints).await);
        if put_off.is_empty() {
            return;
        }
        events.retain(|located| {
            let of_frame = put_off.get(&located.frame.sequence);
            let is_put_off = of_frame.is_some_and(|of_frame| of_frame.contains_key(&located.owner()));
            !is_put_off || early.is_some_and(|early| early.contains(located.event.id))
        });
        self.frames().extend(put_off);
    }

    /// Adds a frame to the bundles if something was taken out of it. False when nothing was.
    pub(crate) fn bundle<'a>(
        &self,
        frame: &Frame<'_>,
        message: &'a Message,
        bundles: &mut Vec<Bundle<'a>>,
    ) -> bool {
        let frames = self.frames();
        let Some(by_owner) = frames.get(&frame.sequence) else {
            return false;
        };
        let deliveries: usize = by_owner.values().sum();
        let Some((owner, _)) = by_owner.iter().max_by_key(|(_, deliveries)| **deliveries) else {
            return false;
        };
        let has_room = |bundle: &&mut Bundle<'_>| {
            bundle.owner == *owner && bundle.deliveries + deliveries <= MAX_DELIVERIES
        };
        match bundles.iter_mut().find(has_room) {
            Some(bundle) => {
                bundle.messages.push(message);
                bundle.deliveries += deliveries;
            }
            None => bundles.push(Bundle {
                owner: owner.clone(),
                messages: vec![message],
                deliveries,
            }),
        }
        true
    }

    fn frames(&self) -> MutexGuard<'_, HashMap<u64, ByOwner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The frames that have too many deliveries, with the owners of these.
fn too_many(counted: &[Counted]) -> HashMap<u64, ByOwner> {
    let (mut of_owners, mut of_organizations) = (ByOwner::new(), HashMap::<OrgId, usize>::new());
    let (mut put_off, mut frames) = (HashSet::new(), HashMap::<_, ByOwner>::new());
    for of_frame in counted.chunk_by(|one, other| one.sequence == other.sequence) {
        for (owner, deliveries) in sum(of_frame.iter().map(|event| (&event.owner, event.deliveries))) {
            let of_owner = of_owners.entry(owner.clone()).or_default();
            let of_organization = of_organizations.entry(owner.0).or_default();
            let fits = (*of_owner).max(*of_organization) + deliveries <= MAX_DELIVERIES;
            if fits && !put_off.contains(owner) {
                *of_owner += deliveries;
                *of_organization += deliveries;
            } else {
                put_off.insert(owner);
                let of_frame = frames.entry(of_frame[0].sequence).or_default();
                of_frame.insert(owner.clone(), deliveries);
            }
        }
    }
    frames
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
    let mut sums = sum(counts);
    sums.retain(|_, deliveries| *deliveries > MAX_DELIVERIES);
    sums.into_keys().collect()
}

/// The sum of each key's deliveries.
fn sum<K: Eq + Hash>(counts: impl Iterator<Item = (K, usize)>) -> HashMap<K, usize> {
    let mut sums = HashMap::new();
    for (key, deliveries) in counts {
        *sums.entry(key).or_default() += deliveries;
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: usize = MAX_DELIVERIES / 2;

    /// What is put off of these frames, each with its sequence number and its owners' deliveries.
    fn put_off(frames: &[(u64, &[(&Owner, usize)])]) -> HashMap<u64, ByOwner> {
        let counted = frames.iter().flat_map(|(sequence, of_frame)| {
            of_frame.iter().map(|(owner, deliveries)| Counted {
                sequence: *sequence,
                owner: (*owner).clone(),
                deliveries: *deliveries,
            })
        });
        too_many(&counted.collect::<Vec<_>>())
    }

    /// One owner's deliveries in a frame.
    fn of_frame(sequence: u64, owner: &Owner, deliveries: usize) -> (u64, ByOwner) {
        (sequence, HashMap::from([(owner.clone(), deliveries)]))
    }

    #[test]
    fn an_owner_keeps_its_first_frames_up_to_what_one_statement_writes() {
        let (one, other) = ((OrgId::generate(), None), (OrgId::generate(), None));
        let frames = put_off(&[
            (7, &[(&one, HALF)]),
            (8, &[(&one, HALF), (&other, 1)]),
            (9, &[(&other, 1), (&one, 2)]),
            // It is offered again, and its owner's turn is over.
            (3, &[(&one, 1), (&other, 1)]),
        ]);
        assert_eq!(
            frames,
            HashMap::from([of_frame(9, &one, 2), of_frame(3, &one, 1)])
        );
    }

    #[test]
    fn of_an_owner_whose_first_frame_is_too_much_all_are_put_off() {
        let (one, other) = ((OrgId::generate(), None), (OrgId::generate(), None));
        let frames = put_off(&[
            (1, &[(&one, HALF), (&one, HALF + 1), (&other, HALF)]),
            (2, &[(&one, 1), (&other, HALF)]),
        ]);
        let expected = [of_frame(1, &one, MAX_DELIVERIES + 1), of_frame(2, &one, 1)];
        assert_eq!(frames, HashMap::from(expected));
    }

    #[test]
    fn what_is_put_off_of_one_tenant_takes_no_room_from_its_organisations_others() {
        let organization = OrgId::generate();
        let tenant = |name: &str| (organization, Some(name.parse().unwrap()));
        let (one, other) = (tenant("one"), tenant("other"));
        let heavy = put_off(&[
            (1, &[(&one, MAX_DELIVERIES + 1)]),
            (2, &[(&other, MAX_DELIVERIES)]),
        ]);
        assert_eq!(heavy, HashMap::from([of_frame(1, &one, MAX_DELIVERIES + 1)]));
        let together = put_off(&[(1, &[(&one, MAX_DELIVERIES)]), (2, &[(&other, 1)])]);
        assert_eq!(together, HashMap::from([of_frame(2, &other, 1)]));
    }
}
