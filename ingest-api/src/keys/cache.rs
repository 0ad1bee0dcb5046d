//! The keys that this replica knows: verified ones by the digest of the whole key, refused ones likewise, and
//! the changes it was told of lately.
//!
//! A change removes the entries that it concerns. It may arrive after Postgres was asked and before the answer is stored
//! here; the stale answer would then outlive the change. So changes are kept for a while, and an answer that was asked
//! for before a change of the same key or organisation is dropped and asked for again. A change is stored before entries
//! are removed, and an entry is stored before changes are read: one of the two always sees the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use shared::domain::id::OrgId;

use crate::config::KeyCacheConfig;
use crate::domain::access::key::KeyId;
use crate::keys::api_key::Digest;
use crate::keys::changes::hearing::Hearing;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;

/// How long a change is kept: longer than any look-up takes, which waits a few seconds each for its turn, a connection and
/// the answer; and longer than any answer goes on, which is two minutes. A client that takes nothing of its answer for a while
/// puts off the next check of its key.
const CHANGE_MEMORY: Duration = Duration::from_secs(180);

/// When Postgres, which is asked twice a second, has not answered for this long, it counts as away.
const SILENCE: Duration = Duration::from_secs(3);

/// A change in Postgres that concerns keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KeyChange {
    /// A key was revoked, or will expire at another time.
    Key(KeyId),
    /// An organisation's limit was changed, which concerns all its keys.
    Organization(OrgId),
}

impl KeyChange {
    /// The key, if it concerns one alone.
    pub(crate) fn key(&self) -> Option<&KeyId> {
        match self {
            Self::Key(id) => Some(id),
            Self::Organization(_) => None,
        }
    }
}

/// What is known of a key.
#[derive(Debug)]
pub(crate) enum Known {
    /// It was verified.
    Verified(Arc<VerifiedKey>),
    /// It was verified, and it is time to ask Postgres again.
    Due(Arc<VerifiedKey>),
    /// It was verified, and it may have been revoked since.
    Unsure,
    /// It is not a key, or no longer.
    Refused,
}

/// The keys in memory.
#[derive(Debug)]
pub(crate) struct KeyCache {
    config: KeyCacheConfig,
    started: Moment,
    verified: DashMap<Digest, Arc<VerifiedKey>>,
    by_id: DashMap<KeyId, Digest>,
    refused: DashMap<Digest, Moment>,
    changes: DashMap<KeyChange, Moment>,
    // Changes before this moment may have been missed.
    in_touch_since: Mutex<Moment>,
    // When Postgres was last asked with success.
    answered_at: Mutex<Moment>,
    hearing: Hearing,
}

impl KeyCache {
    /// An empty cache.
    pub(crate) fn new(config: KeyCacheConfig) -> Self {
        let started = Moment::now();
        Self {
            config,
            started,
            verified: DashMap::new(),
            by_id: DashMap::new(),
            refused: DashMap::new(),
            changes: DashMap::new(),
            in_touch_since: Mutex::new(started),
            answered_at: Mutex::new(started),
            hearing: Hearing::new(),
        }
    }

    /// Up to when revocations are known.
    pub(crate) fn hearing(&self) -> &Hearing {
        &self.hearing
    }

    /// What is known of the key with this digest. The usual request needs only this one map read.
    pub(crate) fn get(&self, digest: &Digest, now: Moment) -> Option<Known> {
        if let Some(key) = self.held(digest) {
            let age = now - key.confirmed_at;
            return if age >= self.config.key_outage_ttl {
                None
            } else if !self.hearing.vouches_for(key.proved_at, now) {
                Some(Known::Unsure)
            } else if key.is_hearsay || age >= self.config.key_cache_ttl / 2 {
                Some(Known::Due(key))
            } else {
                Some(Known::Verified(key))
            };
        }
        let refused = self.refused.get(digest).is_some_and(|until| *until > now);
        refused.then_some(Known::Refused)
    }

    /// A key that was verified, even if it may have changed since.
    pub(crate) fn held(&self, digest: &Digest) -> Option<Arc<VerifiedKey>> {
        self.verified.get(digest).map(|entry| entry.value().clone())
    }

    /// Notes that a request was made with a key.
    pub(crate) fn used(&self, key: &VerifiedKey, now: Moment) {
        key.used(now - self.started);
    }

    /// Notes that Postgres answered.
    pub(crate) fn database_answered(&self, at: Moment) {
        *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Whether Postgres answers, as far as is known.
    pub(crate) fn database_answers(&self, now: Moment) -> bool {
        let answered_at = *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        now - answered_at < SILENCE
    }

    /// Remembers a verified key that Postgres was asked for at `asked_at`. None when it has changed since: ask again.
    pub(crate) fn remember(
        &self,
        digest: Digest,
        key: VerifiedKey,
        asked_at: Moment,
    ) -> Option<Arc<VerifiedKey>> {
        make_room(&self.verified, &digest, self.config.key_cache_size, |key| {
            self.forget_id(&key.id);
        });
        let key = Arc::new(key);
        if let Some(replaced) = self.verified.insert(digest, key.clone()) {
            key.inherit_uses(&replaced);
        }
        // After the entry: an id without an entry may be removed at any time, so a change might not find the entry.
        self.by_id.insert(key.id.clone(), digest);
        if self.changed_since(&key.id, key.grant.realm.org_id, asked_at) {
            self.verified.remove(&digest);
            self.forget_id(&key.id);
            return None;
        }
        Some(key)
    }

    /// Remembers that this is not a key.
    pub(crate) fn refuse(&self, digest: Digest) {
        make_room(&self.refused, &digest, self.config.key_cache_size, |_| ());
        self.refused
            .insert(digest, Moment::now() + self.config.key_refusal_ttl);
    }

    /// Notes a change: the keys that it concerns must be looked up again.
    pub(crate) fn change(&self, change: &KeyChange) {
        self.changes.insert(change.clone(), Moment::now());
        match change {
            KeyChange::Key(id) => self.forget_key(id),
            KeyChange::Organization(org_id) => {
                self.verified.retain(|_, key| key.grant.realm.org_id != *org_id);
                self.by_id.retain(|_, digest| self.verified.contains_key(digest));
            }
        }
    }

    /// Notes that changes may have been missed up to now. Answers that were asked for earlier are no longer accepted.
    /// Returns the keys in memory with their digests, to be looked up again.
    pub(crate) fn back_in_touch(&self) -> Vec<(Digest, Arc<VerifiedKey>)> {
        let now = Moment::now();
        *self.in_touch_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let entries = self.verified.iter();
        entries
            .map(|entry| (*entry.key(), entry.value().clone()))
            .collect()
    }

    /// Whether an outcome that was asked for at `asked_at` may be out of date.
    pub(crate) fn changed_since(&self, id: &KeyId, org_id: OrgId, asked_at: Moment) -> bool {
        let concerned = [KeyChange::Key(id.clone()), KeyChange::Organization(org_id)];
        let in_touch_since = *self.in_touch_since.lock().unwrap_or_else(PoisonError::into_inner);
        asked_at < in_touch_since
            || concerned
                .iter()
                .any(|change| self.changes.get(change).is_some_and(|at| *at >= asked_at))
    }

    /// Whether a change of this key is kept. What other replicas share of the key may be older than the change.
    pub(crate) fn changed_lately(&self, id: &KeyId) -> bool {
        self.changes.contains_key(&KeyChange::Key(id.clone()))
    }

    /// Whether a key was changed after `since`, as far as changes are kept: longer than any request waits and any answer goes on.
    pub(crate) fn key_changed_since(&self, id: &KeyId, since: Moment) -> bool {
        let change = self.changes.get(&KeyChange::Key(id.clone()));
        change.is_some_and(|at| *at >= since)
    }

    /// The keys with uses that Postgres does not know of.
    pub(crate) fn unsaved_uses(&self) -> Vec<Arc<VerifiedKey>> {
        let entries = self.verified.iter();
        let unsaved = entries.filter(|entry| entry.value().unsaved_use().is_some());
        unsaved.map(|entry| entry.value().clone()).collect()
    }

    /// When the process's uptime had that many seconds.
    pub(crate) fn time_of(&self, second: u32) -> Moment {
        self.started + Duration::from_secs(second.into())
    }

    /// Drops entries that are too old. Keys with unsaved uses stay until these are saved; while Postgres is away, all keys
    /// that are still valid stay.
    pub(crate) fn sweep(&self) {
        let now = Moment::now();
        let most = if self.database_answers(now) {
            self.config.key_cache_ttl
        } else {
            self.config.key_cache_ttl.max(self.config.key_outage_ttl)
        };
        self.refused.retain(|_, until| *until > now);
        self.verified
            .retain(|_, key| now - key.confirmed_at < most || key.unsaved_use().is_some());
        self.by_id.retain(|_, digest| self.verified.contains_key(digest));
        self.changes.retain(|_, at| now - *at < CHANGE_MEMORY);
    }

    /// Drops the id of an entry that was removed, unless the key has been remembered again since.
    fn forget_id(&self, id: &KeyId) {
        self.by_id
            .remove_if(id, |_, digest| !self.verified.contains_key(digest));
    }

    fn forget_key(&self, id: &KeyId) {
        if let Some((_, digest)) = self.by_id.remove(id) {
            self.verified.remove(&digest);
        }
    }
}

/// Drops an arbitrary entry when the map is full and lacks `digest`.
fn make_room<V>(map: &DashMap<Digest, V>, digest: &Digest, most: u32, dropped: impl FnOnce(V)) {
    if map.len() < most as usize || map.contains_key(digest) {
        return;
    }
    let victim = map.iter().next().map(|entry| *entry.key());
    if let Some((_, value)) = victim.and_then(|victim| map.remove(&victim)) {
        dropped(value);
    }
}

#[cfg(test)]
mod tests;
