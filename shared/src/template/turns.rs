//! Turns at rendering. Rendering keeps a thread busy, so it is done on threads that may block, a few at once. Of these a tenant
//! has one at most, and so have the organisation's own templates. Organisations get them in turn, and within each its tenants:
//! a template that takes all of its fuel each time keeps nobody waiting but its owner.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::domain::id::OrgId;
use crate::domain::name::Tenant;
use crate::shares::{Owner, Shares};

/// Templates that are rendered at once.
const SLOTS: usize = 2;

/// Turns of one process.
pub struct Turns {
    slots: Arc<Semaphore>,
    /// An owner's is taken until its template is rendered.
    owners: Shares<Owner>,
    /// An organisation's is taken while one of its templates waits for a slot.
    organizations: Shares<OrgId>,
}

impl Turns {
    /// Nobody renders yet.
    pub fn new() -> Self {
        Self::with_slots(SLOTS)
    }

    fn with_slots(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            owners: Shares::new(1),
            organizations: Shares::new(1),
        }
    }

    /// Does `work` of a tenant, or of the organisation itself, when its turn has come. Work that has begun goes on when this is
    /// dropped, and keeps its turn until it is done.
    ///
    /// # Panics
    /// When `work` does.
    pub async fn take<T: Send + 'static>(
        &self,
        org_id: OrgId,
        tenant: Option<&Tenant>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        // The owner's first, so that it never waits among others with more than one. The organisation's next, so that it waits
        // for a slot once, however many tenants it has.
        let own = self.owners.take((org_id, tenant.cloned())).await;
        let place = self.organizations.take(org_id).await;
        let slot = self.slots.clone().acquire_owned().await;
        let slot = slot.expect("it is never closed");
        drop(place);
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            drop((own, slot));
            done
        });
        match done.await {
            Ok(done) => done,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                // The runtime ends.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

impl Default for Turns {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns")
            .field("free", &self.slots.available_permits())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::panic::AssertUnwindSafe;
    use std::sync::{Mutex, mpsc};
    use std::time::Duration;

    use futures_util::FutureExt as _;
    use futures_util::future::join_all;
    use tokio::task::JoinSet;

    use super::*;

    fn tenant(uid: &str) -> Tenant {
        uid.parse().unwrap()
    }

    /// Another owner's work is done while the first of much work of a hostile one goes on.
    async fn does_not_wait(other: &Owner, hostile: &Owner) {
        let turns = Arc::new(Turns::new());
        let (end, ended) = mpsc::channel::<()>();
        let ended = Arc::new(Mutex::new(ended));
        let mut busy = JoinSet::new();
        for _ in 0..10 {
            let (turns, ended) = (turns.clone(), ended.clone());
            let (org_id, tenant) = hostile.clone();
            busy.spawn(async move {
                let wait = move || _ = ended.lock().map(|ended| ended.recv());
                turns.take(org_id, tenant.as_ref(), wait).await;
            });
        }
        while turns.slots.available_permits() == SLOTS {
            tokio::task::yield_now().await;
        }
        let done = turns.take(other.0, other.1.as_ref(), || 7);
        let done = tokio::time::timeout(Duration::from_secs(20), done).await;
        assert_eq!(done, Ok(7), "{other:?} waits for {hostile:?}");
        drop(end);
        busy.join_all().await;
        assert_eq!(turns.slots.available_permits(), SLOTS);
    }

    #[tokio::test]
    async fn an_owner_keeps_one_turn_and_leaves_the_others_to_others() {
        let (one, two) = (OrgId::generate(), OrgId::generate());
        does_not_wait(&(two, None), &(one, None)).await;
        for other in [(one, Some(tenant("b"))), (one, None), (two, Some(tenant("a")))] {
            does_not_wait(&other, &(one, Some(tenant("a")))).await;
        }
    }

    #[tokio::test]
    async fn organisations_have_their_turns_one_after_another_and_so_have_the_tenants_of_each() {
        let turns = Turns::with_slots(1);
        let (many, few) = (OrgId::generate(), OrgId::generate());
        let (a, b, own) = (Some(tenant("a")), Some(tenant("b")), None);
        let (end, ended) = mpsc::channel::<()>();
        let mut first = Box::pin(turns.take(OrgId::generate(), None, move || _ = ended.recv()));
        assert!(first.as_mut().now_or_never().is_none());
        let done = Arc::new(Mutex::new(Vec::new()));
        let of_many = [(many, &a, "a"); 3].into_iter().chain([(many, &b, "b"); 3]);
        let waiting = of_many
            .chain([(few, &own, "few"); 2])
            .map(|(org_id, tenant, name)| {
                let done = done.clone();
                let work = move || done.lock().unwrap().push(name);
                Box::pin(turns.take(org_id, tenant.as_ref(), work))
            });
        let mut waiting: Vec<_> = waiting.collect();
        for work in &mut waiting {
            assert!(work.as_mut().now_or_never().is_none());
        }
        drop(end);
        tokio::join!(first, join_all(waiting));
        let expected = ["a", "few", "b", "few", "a", "b", "a", "b"];
        assert_eq!(*done.lock().unwrap(), expected);
    }

    #[tokio::test]
    async fn a_panic_frees_its_turn_and_goes_on() {
        let (turns, org_id) = (Turns::new(), OrgId::generate());
        let panicking = turns.take(org_id, None, || -> i32 { panic!("out of luck") });
        assert!(AssertUnwindSafe(panicking).catch_unwind().await.is_err());
        assert_eq!(turns.take(org_id, None, || 1).await, 1);
    }
}
