//! The line of bulky frames. Their statements take turns: organisations one after another, within each its tenants, and within
//! those their frames. So an owner of many bulky frames, or of large ones, keeps others waiting for a few statements only.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shared::domain::id::OrgId;
use shared::shares::{Owner, Shares};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;

/// Statements of bulky frames that run at once.
const SLOTS: usize = 2;

/// The most bundles of frames in line, which this worker holds: of all, of one organisation and of one owner.
const PLACES: usize = 16;
const PLACES_OF_ORGANIZATION: usize = 6;
const PLACES_OF_OWNER: usize = 2;

/// See the [module](self). Clones are the same line.
#[derive(Clone, Debug)]
pub(crate) struct Line(Arc<State>);

#[derive(Debug)]
struct State {
    /// Whose frames have a place.
    places: Mutex<Vec<Owner>>,
    /// An owner's share is taken while one of its frames waits for the organisation's share.
    owners: Shares<Owner>,
    /// An organisation's share is taken while one of its frames waits for a slot.
    organizations: Shares<OrgId>,
    slots: Semaphore,
}

impl State {
    fn places(&self) -> MutexGuard<'_, Vec<Owner>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in line, for frames that are stored together, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    line: Arc<State>,
    owner: Owner,
    /// Taken while these frames have a turn.
    turn: Semaphore,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _slot: SemaphorePermit<'a>,
    _own: SemaphorePermit<'a>,
}

impl Line {
    /// An empty line.
    pub(crate) fn new() -> Self {
        Self::with_slots(SLOTS)
    }

    fn with_slots(slots: usize) -> Self {
        Self(Arc::new(State {
            places: Mutex::default(),
            owners: Shares::new(1),
            organizations: Shares::new(1),
            slots: Semaphore::new(slots),
        }))
    }

    /// A place for frames of `owner`; `None` when there are enough of its own, of its organisation's or of all.
    pub(crate) fn enter(&self, owner: Owner) -> Option<Place> {
        let mut places = self.0.places();
        let of_organization = places.iter().filter(|other| other.0 == owner.0);
        let of_owner = places.iter().filter(|other| **other == owner);
        if places.len() >= PLACES
            || of_organization.count() >= PLACES_OF_ORGANIZATION
            || of_owner.count() >= PLACES_OF_OWNER
        {
            return None;
        }
        places.push(owner.clone());
        Some(Place {
            line: self.0.clone(),
            owner,
            turn: Semaphore::new(1),
        })
    }
}

impl Place {
    /// Waits for the next turn of these frames. None comes after the [end](Self::end).
    pub(crate) async fn turn(&self) -> Turn<'_> {
        let State {
            owners,
            organizations,
            slots,
            ..
        } = &*self.line;
        let own = owners.take(self.owner.clone()).await;
        let next = organizations.take(self.owner.0).await;
        let slot = slots.acquire().await;
        drop((own, next));
        Turn {
            _slot: slot.expect("it is never closed"),
            _own: self.own_turn().await,
        }
    }

    /// Waits for the stop, and then for the end of the turn that these frames have, if they have one. While the permit is there
    /// they get no other one.
    pub(crate) async fn end(&self, stop: &CancellationToken) -> SemaphorePermit<'_> {
        stop.cancelled().await;
        self.own_turn().await
    }

    async fn own_turn(&self) -> SemaphorePermit<'_> {
        // Whoever asks first gets it first.
        self.turn.acquire().await.expect("it is never closed")
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.line.places();
        if let Some(index) = places.iter().position(|owner| *owner == self.owner) {
            places.swap_remove(index);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use shared::domain::name::Tenant;

    use super::*;

    fn tenant(number: usize) -> Option<Tenant> {
        format!("tenant-{number}").parse().ok()
    }

    #[tokio::test]
    async fn organisations_take_turns_and_so_do_the_tenants_of_each_however_many_frames_they_have() {
        let line = Line::with_slots(1);
        let (many, few) = (OrgId::generate(), OrgId::generate());
        let enter = |owner| line.enter(owner).expect("there is room");
        let begun = enter((OrgId::generate(), None));
        let turn = begun.turn().now_or_never().expect("it is the first");
        let frames = [
            (enter((many, tenant(1))), "a1"),
            (enter((many, tenant(1))), "a2"),
            (enter((many, tenant(2))), "b"),
            (enter((few, None)), "few"),
        ];
        let done = Mutex::new(Vec::new());
        let waiting = frames.iter().map(|(place, name)| {
            let done = &done;
            Box::pin(async move {
                for _ in 0..2 {
                    let _turn = place.turn().await;
                    done.lock().unwrap().push(*name);
                }
            })
        });
        let mut waiting: Vec<_> = waiting.collect();
        for frame in &mut waiting {
            assert!(frame.as_mut().now_or_never().is_none());
        }
        drop(turn);
        join_all(waiting).await;
        let expected = ["a1", "few", "b", "few", "a2", "b", "a1", "a2"];
        assert_eq!(done.into_inner().unwrap(), expected);
    }

    #[tokio::test]
    async fn an_owner_has_all_slots_while_nobody_else_is_in_line() {
        let line = Line::new();
        let owner = (OrgId::generate(), tenant(1));
        let enter = |owner: &Owner| line.enter(owner.clone());
        let (one, two) = (enter(&owner).unwrap(), enter(&owner).unwrap());
        let _first = one.turn().now_or_never().expect("it is the first");
        let _second = two.turn().now_or_never().expect("nobody else waits");
        assert!(enter(&owner).is_none(), "it has as many places as it may");
    }

    #[tokio::test]
    async fn a_turn_outlives_the_stop_and_no_other_one_follows() {
        let line = Line::new();
        let place = line.enter((OrgId::generate(), None)).expect("there is room");
        let stop = CancellationToken::new();
        let turn = place.turn().now_or_never().expect("it is the first");
        let mut end = Box::pin(place.end(&stop));
        assert!(end.as_mut().now_or_never().is_none(), "nothing stops");
        stop.cancel();
        assert!(end.as_mut().now_or_never().is_none(), "it has its turn");
        drop(turn);
        assert!(place.turn().now_or_never().is_none(), "it stops");
        assert!(end.now_or_never().is_some());
    }

    #[tokio::test]
    async fn frames_without_a_turn_end_at_the_stop() {
        let line = Line::with_slots(0);
        let place = line.enter((OrgId::generate(), None)).expect("there is room");
        let stop = CancellationToken::new();
        stop.cancel();
        let mut turn = Box::pin(place.turn());
        assert!(turn.as_mut().now_or_never().is_none(), "there is no slot");
        assert!(place.end(&stop).now_or_never().is_some());
    }

    #[tokio::test]
    async fn the_line_has_an_end_for_each_organisation_and_for_all() {
        let line = Line::new();
        let one = OrgId::generate();
        let places = (0..PLACES).filter_map(|number| line.enter((one, tenant(number))));
        let mut places: Vec<_> = places.collect();
        assert_eq!(places.len(), PLACES_OF_ORGANIZATION);
        places.extend(std::iter::from_fn(|| line.enter((OrgId::generate(), None))));
        assert_eq!(places.len(), PLACES);
        drop(places.pop());
        assert!(line.enter((OrgId::generate(), None)).is_some());
    }
}
