//! Who sends a request: API keys, verified once and then answered from memory.
//!
//! A verified key is remembered under a keyed BLAKE3 hash of the whole key, so the usual request costs one
//! short hash and one map read: no argon2, no await, and no plaintext key in memory. The second index, from
//! the public id, is what a revocation will be looked up by. A miss is verified by one task however many
//! requests wait for it, on the blocking pool, behind a semaphore; an id that Postgres does not know is
//! refused before any argon2. Both caches are bounded.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use dashmap::DashMap;
use serde::Serialize;
use shared::id::OrgId;
use shared::secret::random_bytes;
use time::OffsetDateTime;
use tokio::sync::{Mutex, Semaphore};

use crate::api_key::{self, ApiKey, KeyId};
use crate::config::KeyCacheConfig;
use crate::error::ApiError;
use crate::rate_limit::Limit;
use crate::store::{KeyRow, Store};

const INVALID_KEY: ApiError = ApiError::Unauthorized("the API key is not valid");

/// What a key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Send events.
    Ingest,
    /// Read and change endpoints and keys.
    Manage,
}

impl Scope {
    /// The name in the API and in the database.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Manage => "manage",
        }
    }
}

/// A key that was verified, and what it allows.
#[derive(Debug)]
pub struct VerifiedKey {
    /// The organisation that owns it.
    pub org_id: OrgId,
    /// The organisation's rate limit.
    pub limit: Limit,
    id: KeyId,
    hash: String,
    ingest: bool,
    manage: bool,
    expires_at: Option<OffsetDateTime>,
    verified_at: Instant,
    refreshing: AtomicBool,
}

impl VerifiedKey {
    /// Whether the key has a scope.
    pub fn allows(&self, scope: Scope) -> bool {
        match scope {
            Scope::Ingest => self.ingest,
            Scope::Manage => self.manage,
        }
    }

    fn new(id: KeyId, row: KeyRow) -> Self {
        let has = |scope: Scope| row.scopes.iter().any(|name| name == scope.as_str());
        Self {
            org_id: row.org_id,
            limit: row.limit(),
            id,
            ingest: has(Scope::Ingest),
            manage: has(Scope::Manage),
            hash: row.hash,
            expires_at: row.expires_at,
            verified_at: Instant::now(),
            refreshing: AtomicBool::new(false),
        }
    }
}

/// A keyed hash of a whole key; the hash's key is drawn when the process starts.
type Digest = [u8; 32];

/// Verifies keys and remembers the outcome.
#[derive(Debug)]
pub struct Authenticator {
    config: KeyCacheConfig,
    store: Store,
    digest_key: [u8; 32],
    verified: DashMap<Digest, Arc<VerifiedKey>>,
    by_id: DashMap<KeyId, Digest>,
    refused: DashMap<Digest, Instant>,
    in_flight: DashMap<Digest, Arc<Mutex<()>>>,
    verifications: Arc<Semaphore>,
}

impl Authenticator {
    /// Knows no key yet.
    pub fn new(config: KeyCacheConfig, store: Store) -> Self {
        let verifications = Arc::new(Semaphore::new(config.key_verifications as usize));
        Self {
            config,
            store,
            digest_key: random_bytes(),
            verified: DashMap::new(),
            by_id: DashMap::new(),
            refused: DashMap::new(),
            in_flight: DashMap::new(),
            verifications,
        }
    }

    /// Finds out who holds `key`.
    ///
    /// # Errors
    /// 401 for anything that is not a valid key; 503 when the key is not in memory and Postgres is away.
    pub async fn authenticate(self: &Arc<Self>, key: &str) -> Result<Arc<VerifiedKey>, ApiError> {
        let digest = *blake3::keyed_hash(&self.digest_key, key.as_bytes()).as_bytes();
        if let Some(known) = self.remembered(&digest) {
            return known;
        }
        let key = ApiKey::parse(key).ok_or(INVALID_KEY)?;
        let flight = Flight::enter(&self.in_flight, digest);
        let _turn = flight.lock.lock().await;
        match self.remembered(&digest) {
            Some(known) => known,
            None => self.verify(digest, &key).await,
        }
    }

    fn remembered(self: &Arc<Self>, digest: &Digest) -> Option<Result<Arc<VerifiedKey>, ApiError>> {
        let now = Instant::now();
        if let Some(entry) = self.verified.get(digest) {
            let key = entry.value().clone();
            drop(entry);
            let age = now.duration_since(key.verified_at);
            if age >= self.config.key_cache_ttl {
                return None;
            }
            if age >= self.config.key_cache_ttl / 2 {
                self.refresh(*digest, &key);
            }
            return Some(not_expired(key));
        }
        let refused = self.refused.get(digest).is_some_and(|until| *until > now);
        refused.then_some(Err(INVALID_KEY))
    }

    async fn verify(&self, digest: Digest, key: &ApiKey<'_>) -> Result<Arc<VerifiedKey>, ApiError> {
        let Some(row) = self.store.find_key(&key.id()).await? else {
            self.refuse(digest);
            return Err(INVALID_KEY);
        };
        let (text, hash) = (key.as_str().to_owned(), row.hash.clone());
        let turn = self
            .verifications
            .clone()
            .acquire_owned()
            .await
            .map_err(anyhow::Error::from);
        let turn = turn.map_err(ApiError::Internal)?;
        metrics::counter!("key_verifications_total").increment(1);
        let verified = tokio::task::spawn_blocking(move || {
            let verified = api_key::verify(&text, &hash);
            drop(turn);
            verified
        });
        let verified = verified
            .await
            .map_err(anyhow::Error::from)
            .flatten()
            .map_err(ApiError::Internal)?;
        if !verified {
            self.refuse(digest);
            return Err(INVALID_KEY);
        }
        not_expired(self.remember(digest, VerifiedKey::new(key.id(), row)))
    }

    /// Asks Postgres again about a key in use, in the background and without argon2: the row's hash is the one
    /// that was verified. Without an answer the key stays until its time to live ends.
    #[expect(
        clippy::disallowed_methods,
        reason = "it is bounded by the pool's timeout and nothing waits for it"
    )]
    fn refresh(self: &Arc<Self>, digest: Digest, key: &Arc<VerifiedKey>) {
        if key.refreshing.swap(true, Ordering::Relaxed) {
            return;
        }
        let (this, key) = (self.clone(), key.clone());
        tokio::spawn(async move {
            match this.store.find_key(&key.id).await {
                Ok(Some(row)) if row.hash == key.hash => {
                    this.remember(digest, VerifiedKey::new(key.id.clone(), row));
                }
                Ok(_) => this.forget(&key.id),
                Err(_) => key.refreshing.store(false, Ordering::Relaxed),
            }
        });
    }

    fn remember(&self, digest: Digest, key: VerifiedKey) -> Arc<VerifiedKey> {
        make_room(&self.verified, self.config.key_cache_size, |key| {
            self.by_id.remove(&key.id);
        });
        let key = Arc::new(key);
        self.by_id.insert(key.id.clone(), digest);
        self.verified.insert(digest, key.clone());
        key
    }

    fn forget(&self, id: &KeyId) {
        if let Some((_, digest)) = self.by_id.remove(id) {
            self.verified.remove(&digest);
        }
    }

    fn refuse(&self, digest: Digest) {
        make_room(&self.refused, self.config.key_cache_size, |_| ());
        self.refused
            .insert(digest, Instant::now() + self.config.key_refusal_ttl);
    }

    /// Forgets what is too old to be used.
    pub fn sweep(&self) {
        let now = Instant::now();
        self.refused.retain(|_, until| *until > now);
        self.verified
            .retain(|_, key| now.duration_since(key.verified_at) < self.config.key_cache_ttl);
        self.by_id.retain(|_, digest| self.verified.contains_key(digest));
    }
}

fn not_expired(key: Arc<VerifiedKey>) -> Result<Arc<VerifiedKey>, ApiError> {
    let expired = key
        .expires_at
        .is_some_and(|at| at <= shared::clock::UnixMicros::now().to_date_time());
    if expired {
        Err(ApiError::Unauthorized("the API key has expired"))
    } else {
        Ok(key)
    }
}

/// Drops an arbitrary entry of a full map.
fn make_room<V>(map: &DashMap<Digest, V>, most: u32, dropped: impl FnOnce(V)) {
    if map.len() < most as usize {
        return;
    }
    let victim = map.iter().next().map(|entry| *entry.key());
    if let Some((_, value)) = victim.and_then(|victim| map.remove(&victim)) {
        dropped(value);
    }
}

/// A place among the requests that wait for the same key. The last to leave, also by being cancelled, takes
/// the map's entry along.
struct Flight<'a> {
    flights: &'a DashMap<Digest, Arc<Mutex<()>>>,
    digest: Digest,
    lock: Arc<Mutex<()>>,
}

impl<'a> Flight<'a> {
    fn enter(flights: &'a DashMap<Digest, Arc<Mutex<()>>>, digest: Digest) -> Self {
        let lock = flights.entry(digest).or_default().clone();
        Self {
            flights,
            digest,
            lock,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        const MAP_AND_SELF: usize = 2;
        self.flights
            .remove_if(&self.digest, |_, lock| Arc::strong_count(lock) <= MAP_AND_SELF);
    }
}
