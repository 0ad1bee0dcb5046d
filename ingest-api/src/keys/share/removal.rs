//! Removing entries from the bucket, at once or soon.

use std::collections::HashSet;
use std::sync::{MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::KeyShare;
use super::bucket::{PATIENCE, Place, entry};
use crate::domain::access::key::KeyId;

/// How many entries are removed at once.
const AT_ONCE: usize = 64;

impl KeyShare {
    /// Removes a key's entry. False when that must be tried again.
    pub(crate) async fn remove(&self, id: &KeyId) -> bool {
        let Some(bucket) = self.bucket.get().filter(|_| self.nats.is_connected()) else {
            return false;
        };
        match timeout(PATIENCE, bucket.delete(id.as_str())).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => tracing::warn!(key = %id, %error, "cannot remove a shared key yet"),
            Err(_) => tracing::warn!(key = %id, "cannot remove a shared key in time, trying again"),
        }
        false
    }

    /// Removes the entries of keys, for about a second at the most, and returns those that it has removed. The others are removed
    /// soon.
    pub(crate) async fn remove_all(&self, ids: &[KeyId]) -> Vec<KeyId> {
        let (begun, mut removed) = (Instant::now(), Vec::new());
        for some in ids.chunks(AT_ONCE) {
            let outcomes = if begun.elapsed() < PATIENCE {
                join_all(some.iter().map(|id| self.remove(id))).await
            } else {
                vec![false; some.len()]
            };
            for (id, is_removed) in some.iter().zip(outcomes) {
                if is_removed {
                    removed.push(id.clone());
                } else {
                    self.discard(id.clone());
                }
            }
        }
        removed
    }

    /// Whether a key's entry has just been removed, perhaps by another replica.
    pub(crate) async fn is_removed(&self, id: &KeyId) -> bool {
        match self.bucket.get().filter(|_| self.nats.is_connected()) {
            Some(bucket) => matches!(entry(bucket, id).await, Some(Place::Removed)),
            None => false,
        }
    }

    /// Asks for a key's entry to be removed soon.
    pub(crate) fn discard(&self, id: KeyId) {
        self.unwanted().insert(id);
        self.has_unwanted.notify_one();
    }

    /// Waits for keys that are to be removed.
    pub(crate) async fn discarded(&self) -> Vec<KeyId> {
        loop {
            let ids: Vec<_> = self.unwanted().iter().cloned().collect();
            if !ids.is_empty() {
                return ids;
            }
            self.has_unwanted.notified().await;
        }
    }

    /// Notes that a key's entry is removed.
    pub(crate) fn has_removed(&self, id: &KeyId) {
        self.unwanted().remove(id);
    }

    fn unwanted(&self) -> MutexGuard<'_, HashSet<KeyId>> {
        self.unwanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
