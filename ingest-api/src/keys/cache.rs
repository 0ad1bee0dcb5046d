//! The keys that this replica knows: verified ones by the digest of the whole key, refused ones likewise, and
//! the changes it was told of lately.
//!
//! A change removes what it concerns. It may arrive between a look-up in Postgres and the moment its outcome is
//! remembered, which would then outlive the change; so changes are kept for a while, and an outcome that was
//! asked for before a change of the same key or organisation is not remembered but asked for again. The change
//! is written down before entries are removed, and the entry is written before changes are looked at: one of
//! the two always sees the other.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use serde::{Deserialize, Serialize};
use shared::domain::id::OrgId;

use crate::config::KeyCacheConfig;
use crate::domain::key::KeyId;
use crate::keys::api_key::Digest;
use crate::keys::hearing::Hearing;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;

/// How long a change is kept. No look-up takes this long: it waits for its turn, for a connection and for the
/// answer, a few seconds each.
const CHANGE_MEMORY: Duration = Duration::from_secs(60);

/// When Postgres, which is asked twice a second, has not answered for this long, it counts as away.
const SILENCE: Duration = Duration::from_secs(3);

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
    /// It was verified, and it may have been revoked since.
    Unsure,
    /// It is not a key, or no longer.
    Refused,
}

/// The keys in memory.
#[derive(Debug)]
pub struct KeyCache {
    config: KeyCacheConfig,
    started: Moment,
    verified: DashMap<Digest, Arc<VerifiedKey>>,
    by_id: DashMap<KeyId, Digest>,
    refused: DashMap<Digest, Moment>,
    changes: DashMap<KeyChange, Moment>,
    // Before this moment changes may have been missed.
    in_touch_since: Mutex<Moment>,
    // When Postgres was last asked with success.
    answered_at: Mutex<Moment>,
    hearing: Hearing,
}

impl KeyCache {
    /// Knows nothing.
    pub fn new(config: KeyCacheConfig) -> Self {
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
    pub fn hearing(&self) -> &Hearing {
        &self.hearing
    }

    /// What is known of the key with this digest. The usual request needs this one map read and nothing else.
    pub fn get(&self, digest: &Digest, now: Moment) -> Option<Known> {
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

    /// A key that was verified, whatever became of it since.
    pub fn held(&self, digest: &Digest) -> Option<Arc<VerifiedKey>> {
        self.verified.get(digest).map(|entry| entry.value().clone())
    }

    /// Notes that a request was made with a key.
    pub fn used(&self, key: &VerifiedKey, now: Moment) {
        key.used(now - self.started);
    }

    /// Notes that Postgres answered.
    pub fn database_answered(&self, at: Moment) {
        *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = at;
    }

    /// Whether Postgres answers, as far as is known.
    pub fn database_answers(&self, now: Moment) -> bool {
        let answered_at = *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner);
        now - answered_at < SILENCE
    }

    /// Remembers a verified key that was asked for at `asked_at`. Nothing, when it has changed since: ask again.
    pub fn remember(&self, digest: Digest, key: VerifiedKey, asked_at: Moment) -> Option<Arc<VerifiedKey>> {
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
            .insert(digest, Moment::now() + self.config.key_refusal_ttl);
    }

    /// Takes note of a change: what it concerns must be asked for again.
    pub fn change(&self, change: &KeyChange) {
        self.changes.insert(change.clone(), Moment::now());
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
        let now = Moment::now();
        *self.in_touch_since.lock().unwrap_or_else(PoisonError::into_inner) = now;
        let entries = self.verified.iter();
        entries
            .map(|entry| (*entry.key(), entry.value().clone()))
            .collect()
    }

    /// Whether an outcome that was asked for at `asked_at` may be out of date.
    pub fn changed_since(&self, id: &KeyId, org_id: OrgId, asked_at: Moment) -> bool {
        let concerned = [KeyChange::Key(id.clone()), KeyChange::Organization(org_id)];
        let in_touch_since = *self.in_touch_since.lock().unwrap_or_else(PoisonError::into_inner);
        asked_at < in_touch_since
            || concerned
                .iter()
                .any(|change| self.changes.get(change).is_some_and(|at| *at >= asked_at))
    }

    /// Whether a key was changed, as far as changes are kept. What others have shared of it may be from before then.
    pub fn changed_lately(&self, id: &KeyId) -> bool {
        self.changes.contains_key(&KeyChange::Key(id.clone()))
    }

    /// Whether a key was changed after `since`, as far as changes are kept: longer than any request waits.
    pub fn key_changed_since(&self, id: &KeyId, since: Moment) -> bool {
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
    pub fn time_of(&self, second: u32) -> Moment {
        self.started + Duration::from_secs(second.into())
    }

    /// Forgets what is too old to be used; keys with unsaved uses stay until these are saved, and while Postgres is away
    /// all that may still be used.
    pub fn sweep(&self) {
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
    use crate::domain::grant::Grant;
    use crate::domain::limit::Limit;
    use crate::domain::scope::Scopes;
    use crate::keys::hearing::{FRESH, Span};

    fn cache(size: u32, ttl: Duration) -> KeyCache {
        KeyCache::new(KeyCacheConfig {
            key_cache_ttl: ttl,
            key_cache_size: size,
            ..KeyCacheConfig::for_tests()
        })
    }

    fn key(id: &str, org_id: OrgId, confirmed_at: Moment) -> VerifiedKey {
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
        let now = Moment::now();
        let fill = || {
            cache.remember([1; 32], key(ID, one, now), Moment::now()).unwrap();
            cache
                .remember([2; 32], key(OTHER, two, now), Moment::now())
                .unwrap();
        };
        fill();
        cache.change(&KeyChange::Key(OTHER.parse().unwrap()));
        assert!(cache.get(&[1; 32], Moment::now()).is_some() && cache.get(&[2; 32], Moment::now()).is_none());
        fill();
        cache.change(&KeyChange::Organization(one));
        assert!(cache.get(&[1; 32], Moment::now()).is_none() && cache.get(&[2; 32], Moment::now()).is_some());
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
            let asked_at = Moment::now();
            cache.change(&change);
            assert!(
                cache
                    .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                    .is_none()
            );
            assert!(cache.get(&[1; 32], Moment::now()).is_none());
            let asked_at = Moment::now();
            assert!(
                cache
                    .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                    .is_some()
            );
        }
        let asked_at = Moment::now();
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
            let asked_at = Moment::now();
            cache
                .remember([1; 32], key(ID, org_id, asked_at), asked_at)
                .unwrap();
        };
        remember();
        cache.verified.remove(&[1; 32]);
        remember();
        cache.forget_id(&id);
        cache.change(&KeyChange::Key(id.clone()));
        assert!(cache.get(&[1; 32], Moment::now()).is_none());

        remember();
        cache.verified.remove(&[1; 32]);
        cache.forget_id(&id);
        assert!(cache.by_id.is_empty());
    }

    #[test]
    fn a_key_is_due_at_half_its_time_and_stays_while_postgres_is_away() {
        let (ttl, outage) = (Duration::from_secs(60), Duration::from_secs(600));
        let cache = cache(10, ttl);
        let now = Moment::now();
        let heard = Span {
            from: now - 2 * outage,
            until: now,
        };
        cache.hearing.add(heard);
        let remember = |age: Duration| {
            let key = key(ID, OrgId::generate(), now - age);
            cache.remember([1; 32], key, now).unwrap();
            cache.get(&[1; 32], now)
        };
        assert!(matches!(remember(Duration::ZERO), Some(Known::Verified(_))));
        assert!(matches!(remember(ttl / 2), Some(Known::Due(_))));
        assert!(remember(outage).is_none());
        assert!(matches!(remember(ttl), Some(Known::Due(_))));
        cache.database_answered(now - SILENCE);
        cache.sweep();
        assert_eq!((cache.verified.len(), cache.by_id.len()), (1, 1));
        cache.database_answered(now);
        cache.sweep();
        assert_eq!((cache.verified.len(), cache.by_id.len()), (0, 0));
    }

    #[test]
    fn a_key_that_may_have_been_revoked_meanwhile_is_not_trusted() {
        let cache = cache(10, Duration::from_secs(60));
        let now = Moment::now();
        let key = key(ID, OrgId::generate(), now);
        cache.remember([1; 32], key, now).unwrap();
        let get = |later| cache.get(&[1; 32], now + later);
        assert!(matches!(get(Duration::ZERO), Some(Known::Verified(_))));
        assert!(matches!(get(FRESH), Some(Known::Unsure)));
    }

    #[test]
    fn a_use_survives_refreshes_and_sweeps_until_it_is_saved() {
        let cache = cache(10, Duration::ZERO);
        let (org_id, now) = (OrgId::generate(), Moment::now());
        let first = cache.remember([1; 32], key(ID, org_id, now), now).unwrap();
        cache.used(&first, now);
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
        let now = Moment::now();
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
