//! The keys that this replica knows: verified ones by the digest of the whole key, refused ones likewise, and
//! the changes it was told of lately.
//!
//! A change removes what it concerns. It may arrive between a look-up in Postgres and the moment its outcome is
//! remembered, which would then outlive the change; so changes are kept for a while, and an outcome that was
//! asked for before a change of the same key or organisation is not remembered but asked for again. The change
//! is written down before entries are removed, and the entry is written before changes are looked at: one of
//! the two always sees the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use shared::id::OrgId;

use crate::api_key::{Digest, KeyId};
use crate::config::KeyCacheConfig;
use crate::verified_key::VerifiedKey;

/// How long a change is kept. No look-up takes this long: it waits for its turn, for a connection and for the
/// answer, a few seconds each.
const CHANGE_MEMORY: Duration = Duration::from_secs(60);

/// Something in Postgres is no longer what it was.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyChange {
    /// A key was revoked, or will expire at another time.
    Key(KeyId),
    /// An organisation's limit is another, which concerns all its keys.
    Organization(OrgId),
}

/// What is known of a key.
#[derive(Debug)]
pub enum Known {
    /// It was verified.
    Verified(Arc<VerifiedKey>),
    /// It was verified, and it is time to ask Postgres again.
    Due(Arc<VerifiedKey>),
    /// It is not a key, or no longer.
    Refused,
}

/// The keys in memory.
#[derive(Debug)]
pub struct KeyCache {
    config: KeyCacheConfig,
    started: Instant,
    verified: DashMap<Digest, Arc<VerifiedKey>>,
    by_id: DashMap<KeyId, Digest>,
    refused: DashMap<Digest, Instant>,
    changes: DashMap<KeyChange, Instant>,
    // Before this moment changes may have been missed.
    in_touch_since: Mutex<Instant>,
}

impl KeyCache {
    /// Knows nothing.
    pub fn new(config: KeyCacheConfig) -> Self {
        let started = Instant::now();
        Self {
            config,
            started,
            verified: DashMap::new(),
            by_id: DashMap::new(),
            refused: DashMap::new(),
            changes: DashMap::new(),
            in_touch_since: Mutex::new(started),
        }
    }

    /// What is known of the key with this digest. The usual request needs this one map read and nothing else.
    pub fn get(&self, digest: &Digest) -> Option<Known> {
        let now = Instant::now();
        if let Some(entry) = self.verified.get(digest) {
            let key = entry.value().clone();
            drop(entry);
            let age = now.duration_since(key.confirmed_at);
            if age >= self.config.key_cache_ttl {
                return None;
            }
            return Some(if key.is_hearsay || age >= self.config.key_cache_ttl / 2 {
                Known::Due(key)
            } else {
                Known::Verified(key)
            });
        }
        let refused = self.refused.get(digest).is_some_and(|until| *until > now);
        refused.then_some(Known::Refused)
    }

    /// Notes that a request was made with a key.
    pub fn used(&self, key: &VerifiedKey) {
        key.used(self.started.elapsed());
    }

    /// Remembers a verified key that was asked for at `asked_at`. Nothing, when it has changed since: ask again.
    pub fn remember(&self, digest: Digest, key: VerifiedKey, asked_at: Instant) -> Option<Arc<VerifiedKey>> {
        make_room(&self.verified, &digest, self.config.key_cache_size, |key| {
            self.forget_id(&key.id);
        });
        let key = Arc::new(key);
        if let Some(replaced) = self.verified.insert(digest, key.clone()) {
            key.inherit_uses(&replaced);
        }
        // After the entry: an id without an entry may be removed at any time, and an entry without an id could
        // not be found by a change.
        self.by_id.insert(key.id.clone(), digest);
        if self.changed_since(&key.id, key.grant.org_id, asked_at) {
            self.verified.remove(&digest);
            self.forget_id(&key.id);
            return None;
        }
        Some(key)
    }

    /// Remembers that this is not a key.
    pub fn refuse(&self, digest: Digest) {
        make_room(&self.refused, &digest, self.config.key_cache_size, |_| ());
        self.refused
            .insert(digest, Instant::now() + self.config.key_refusal_ttl);
    }

    /// Takes note of a change: what it concerns must be asked for again.
    pub fn change(&self, change: &KeyChange) {
        self.changes.insert(change.clone(), Instant::now());
        match change {
            KeyChange::Key(id) => self.forget_key(id),
            KeyChange::Organization(org_id) => {
                self.verified.retain(|_, key| key.grant.org_id != *org_id);
                self.by_id.retain(|_, digest| self.verified.contains_key(digest));
            }
        }
    }

    /// Changes may have been missed up to now: what was asked for earlier is not remembered any more, and the
    /// keys that are remembered already are handed out, with their digests, to be asked for again.
    pub fn back_in_touch(&self) -> Vec<(Digest, Arc<VerifiedKey>)> {
        let now = Instant::now();
        *self.in_touch_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let entries = self.verified.iter();
        entries
            .map(|entry| (*entry.key(), entry.value().clone()))
            .collect()
    }

    /// Whether an outcome that was asked for at `asked_at` may be out of date.
    pub fn changed_since(&self, id: &KeyId, org_id: OrgId, asked_at: Instant) -> bool {
        let concerned = [KeyChange::Key(id.clone()), KeyChange::Organization(org_id)];
        let in_touch_since = *self.in_touch_since.lock().unwrap_or_else(PoisonError::into_inner);
        asked_at < in_touch_since
            || concerned
                .iter()
                .any(|change| self.changes.get(change).is_some_and(|at| *at >= asked_at))
    }

    /// Whether a key was changed after `since`, as far as changes are kept: longer than any request waits.
    pub fn key_changed_since(&self, id: &KeyId, since: Instant) -> bool {
        let change = self.changes.get(&KeyChange::Key(id.clone()));
        change.is_some_and(|at| *at >= since)
    }

    /// The keys with uses that Postgres does not know of.
    pub fn unsaved_uses(&self) -> Vec<Arc<VerifiedKey>> {
        let entries = self.verified.iter();
        let unsaved = entries.filter(|entry| entry.value().unsaved_use().is_some());
        unsaved.map(|entry| entry.value().clone()).collect()
    }

    /// When the process's uptime had that many seconds.
    pub fn time_of(&self, second: u32) -> Instant {
        self.started + Duration::from_secs(second.into())
    }

    /// Forgets what is too old to be used; keys with unsaved uses stay until these are saved.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        self.verified.retain(|_, key| {
            now.duration_since(key.confirmed_at) < self.config.key_cache_ttl || key.unsaved_use().is_some()
        });
        self.by_id.retain(|_, digest| self.verified.contains_key(digest));
        self.changes
            .retain(|_, at| now.duration_since(*at) < CHANGE_MEMORY);
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

/// Drops an arbitrary entry of a full map that is about to get `digest`.
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
mod tests {
    use super::*;
    use crate::gcra::Limit;
    use crate::scope::Scopes;
    use crate::verified_key::Grant;

    fn cache(size: u32, ttl: Duration) -> KeyCache {
        KeyCache::new(KeyCacheConfig {
            key_cache_ttl: ttl,
            key_cache_size: size,
            ..KeyCacheConfig::for_tests()
        })
    }

    fn key(id: &str, org_id: OrgId, confirmed_at: Instant) -> VerifiedKey {
        let grant = Grant {
            org_id,
            limit: Limit::per_minute(1),
            scopes: Scopes::all(),
            expires_at: None,
            fingerprint: [0; 32],
        };
        VerifiedKey::new(id.parse().unwrap(), grant, confirmed_at)
    }

    const ID: &str = "aaaaaaaaaaaaaaaa";
    const OTHER: &str = "bbbbbbbbbbbbbbbb";

    #[test]
    fn a_change_removes_what_it_concerns_and_nothing_else() {
        let cache = cache(10, Duration::from_secs(60));
        let (one, two) = (OrgId::generate(), OrgId::generate());
        let now = Instant::now();
        let fill = || {
            cache
                .remember([1; 32], key(ID, one, now), Instant::now())
                .unwrap();
            cache
                .remember([2; 32], key(OTHER, two, now), Instant::now())
                .unwrap();
        };
        fill();
        cache.change(&KeyChange::Key(OTHER.parse().unwrap()));
        assert!(cache.get(&[1; 32]).is_some() && cache.get(&[2; 32]).is_none());
        fill();
        cache.change(&KeyChange::Organization(one));
        assert!(cache.get(&[1; 32]).is_none() && cache.get(&[2; 32]).is_some());
        assert_eq!(cache.by_id.len(), 1);
    }

    #[test]
    fn an_outcome_that_was_asked_for_before_a_change_is_not_remembered() {
        let cache = cache(10, Duration::from_secs(60));
        let org_id = OrgId::generate();
        for change in [
            KeyChange::Key(ID.parse().unwrap()),
            KeyChange::Organization(org_id),
        ] {
            let asked_at = Instant::now();
            cache.change(&change);
            assert!(
                cache
                    .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                    .is_none()
            );
            assert!(cache.get(&[1; 32]).is_none());
            let asked_at = Instant::now();
            assert!(
                cache
                    .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                    .is_some()
            );
        }
        let asked_at = Instant::now();
        assert_eq!(cache.back_in_touch().len(), 1);
        assert!(
            cache
                .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                .is_none()
        );
    }

    /// What two threads can do to each other, step by step: one removes an entry, and before it drops its id the
    /// other remembers the key again.
    #[test]
    fn a_key_that_is_remembered_again_while_it_is_removed_is_still_found_by_a_change() {
        let cache = cache(10, Duration::from_secs(60));
        let org_id = OrgId::generate();
        let id: KeyId = ID.parse().unwrap();
        let remember = || {
            let asked_at = Instant::now();
            cache
                .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                .unwrap();
        };
        remember();
        cache.verified.remove(&[1; 32]);
        remember();
        cache.forget_id(&id);
        cache.change(&KeyChange::Key(id.clone()));
        assert!(cache.get(&[1; 32]).is_none());

        remember();
        cache.verified.remove(&[1; 32]);
        cache.forget_id(&id);
        assert!(cache.by_id.is_empty());
    }

    #[test]
    fn a_key_is_due_at_half_its_time_and_gone_at_its_end() {
        let ttl = Duration::from_secs(60);
        let cache = cache(10, ttl);
        let now = Instant::now();
        let remember = |age: Duration| {
            let key = key(ID, OrgId::generate(), now.checked_sub(age).unwrap());
            cache.remember([1; 32], key, now).unwrap();
            cache.get(&[1; 32])
        };
        assert!(matches!(remember(Duration::ZERO), Some(Known::Verified(_))));
        assert!(matches!(remember(ttl / 2), Some(Known::Due(_))));
        assert!(remember(ttl).is_none());
        cache.sweep();
        assert_eq!((cache.verified.len(), cache.by_id.len()), (0, 0));
    }

    #[test]
    fn a_use_survives_refreshes_and_sweeps_until_it_is_saved() {
        let cache = cache(10, Duration::ZERO);
        let (org_id, now) = (OrgId::generate(), Instant::now());
        let first = cache.remember([1; 32], key(ID, org_id, now), now).unwrap();
        cache.used(&first);
        cache.remember([1; 32], key(ID, org_id, now), now).unwrap();
        cache.sweep();
        let unsaved = cache.unsaved_uses();
        let second = unsaved[0].unsaved_use().unwrap();
        unsaved[0].saved_use(second);
        assert!(cache.unsaved_uses().is_empty());
        cache.sweep();
        assert!(cache.verified.is_empty());
    }

    #[test]
    fn neither_cache_grows_beyond_its_size() {
        let cache = cache(3, Duration::from_secs(60));
        let now = Instant::now();
        for number in 0..10_u8 {
            let id = format!("aaaaaaaaaaaaaaa{}", char::from(b'a' + number));
            cache
                .remember([number; 32], key(&id, OrgId::generate(), now), now)
                .unwrap();
            cache.refuse([100 + number; 32]);
        }
        assert_eq!(
            (cache.verified.len(), cache.by_id.len(), cache.refused.len()),
            (3, 3, 3)
        );
    }
}
