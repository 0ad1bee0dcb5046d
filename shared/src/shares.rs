//! Shares of what is scarce, so that nobody takes all of it.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::domain::id::OrgId;
use crate::domain::name::Tenant;

/// Whose something is: a tenant's, or the organisation's own.
pub type Owner = (OrgId, Option<Tenant>);

/// For each key a share that some tasks may have at a time, in the order in which they ask. Those that nobody has or asks for
/// are dropped when there is no room for another one.
pub struct Shares<K> {
    tasks: usize,
    by_key: Mutex<HashMap<K, Arc<Semaphore>>>,
}

impl<K: Eq + Hash> Shares<K> {
    /// Each is for so many tasks at a time.
    pub fn new(tasks: usize) -> Self {
        Self {
            tasks,
            by_key: Mutex::default(),
        }
    }

    /// A place in a key's share, until the permit is dropped.
    pub async fn take(&self, key: K) -> OwnedSemaphorePermit {
        let share = self.of(key);
        share.acquire_owned().await.expect("it is never closed")
    }

    fn of(&self, key: K) -> Arc<Semaphore> {
        let mut shares = self.by_key.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = shares.get(&key) {
            return share.clone();
        }
        if shares.len() == shares.capacity() {
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        let share = Arc::new(Semaphore::new(self.tasks));
        shares.insert(key, share.clone());
        share
    }
}

impl<K> fmt::Debug for Shares<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares")
            .field("tasks", &self.tasks)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_share_is_for_some_tasks_and_takes_nothing_of_another_one() {
        let shares = Shares::new(2);
        let first = shares.take("a").await;
        let _second = shares.take("a").await;
        assert!(shares.take("a").now_or_never().is_none());
        assert!(shares.take("b").now_or_never().is_some());
        drop(first);
        assert!(shares.take("a").now_or_never().is_some());
    }

    #[tokio::test]
    async fn shares_that_nobody_has_are_forgotten_and_the_others_kept() {
        let shares = Shares::new(1);
        let _kept = shares.take(0).await;
        for number in 1..100 {
            drop(shares.take(number).await);
        }
        let known = shares.by_key.lock().unwrap().len();
        assert!(known < 10, "{known}");
        assert!(shares.take(0).now_or_never().is_none());
    }
}
