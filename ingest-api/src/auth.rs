//! Who sends a request: API keys, verified once and then answered from memory.
//!
//! A verified key is remembered under a keyed BLAKE3 hash of the whole key, so the usual request costs one
//! short hash and one map read: no argon2, no await, and no plaintext key in memory. What is not remembered
//! passes through ever more expensive gates: the check in the key, which what was not made here fails without
//! any I/O; a look-up in Postgres, few at once, which an unknown or revoked id fails; and, unless another replica
//! has shared that it verified this key, argon2 on the blocking pool behind a semaphore. One task goes there
//! for a key however many requests wait for it, and they fail together when it does.
//!
//! How long a key can outlive its revocation: a replica forgets it on a signal, within a second
//! ([`crate::key_changes`]). A replica that the signal did not reach asks Postgres about every key again once it
//! is back in touch, and in any case at half of the cache's time to live. If Postgres does not answer either,
//! the key ends with that time to live.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::clock::UnixMicros;
use shared::shutdown::Tasks;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::api_key::{self, ApiKey, Digest, KeyId, KeyPrefix, KeySecrets, NewKey};
use crate::config::KeyCacheConfig;
use crate::error::ApiError;
use crate::key_cache::{KeyCache, KeyChange, Known};
use crate::key_proof::Proof;
use crate::key_share::KeyShare;
use crate::single_flight::Flights;
use crate::store::{KeyRow, Store};
use crate::verified_key::VerifiedKey;

/// The answer to what is not a key, or not any more.
pub const INVALID_KEY: ApiError = ApiError::Unauthorized("the API key is not valid");

/// How long a request waits for its turn at Postgres or at argon2.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// How long Postgres may take to confirm a key that another replica has verified. Then that is trusted for the
/// time being, so that neither a Postgres that is away nor the rush after a restart makes requests wait.
const CONFIRMATION_PATIENCE: Duration = Duration::from_millis(500);

/// How often a key is asked for that changes while it is being asked for.
const TRIES: usize = 3;

/// Keys that are asked for again in one statement.
const BATCH: usize = 500;

/// Verifies keys and remembers the outcome.
#[derive(Debug)]
pub struct Authenticator {
    config: KeyCacheConfig,
    secrets: KeySecrets,
    cache: Arc<KeyCache>,
    share: Arc<KeyShare>,
    store: Store,
    tasks: Tasks,
    in_flight: Flights,
    lookups: Semaphore,
    verifications: Arc<Semaphore>,
    // Apart from the verifications, so that making many keys keeps nobody from using theirs.
    minting: Arc<Semaphore>,
}

/// What an [`Authenticator`] works with.
#[derive(Debug)]
pub struct AuthenticatorParts {
    /// What keys are recognised with.
    pub secrets: KeySecrets,
    /// The keys in memory.
    pub cache: Arc<KeyCache>,
    /// What other replicas have verified.
    pub share: Arc<KeyShare>,
    /// Postgres.
    pub store: Store,
    /// What runs its refreshes.
    pub tasks: Tasks,
}

impl Authenticator {
    /// Knows what the cache knows.
    pub fn new(config: KeyCacheConfig, parts: AuthenticatorParts) -> Self {
        Self {
            lookups: Semaphore::new(config.key_lookups as usize),
            verifications: Arc::new(Semaphore::new(config.key_verifications as usize)),
            minting: Arc::new(Semaphore::new(1)),
            config,
            secrets: parts.secrets,
            cache: parts.cache,
            share: parts.share,
            store: parts.store,
            tasks: parts.tasks,
            in_flight: Flights::default(),
        }
    }

    /// Finds out who holds `key`.
    ///
    /// # Errors
    /// 401 for anything that is not a valid key; 503 when the key is not in memory and Postgres is away, or when
    /// too many other keys are being looked up.
    pub async fn authenticate(self: &Arc<Self>, key: &str) -> Result<Arc<VerifiedKey>, ApiError> {
        let digest = self.secrets.digest(key);
        match self.remembered(&digest) {
            Some(known) => known,
            // In a box: it is rare, and would make every request's future several times as large.
            None => Box::pin(self.find_out(digest, key)).await,
        }
    }

    /// Finds out about a key that is not remembered.
    async fn find_out(self: &Arc<Self>, digest: Digest, key: &str) -> Result<Arc<VerifiedKey>, ApiError> {
        let Some(key) = self.secrets.recognise(key) else {
            metrics::counter!("key_forgeries_total").increment(1);
            return Err(INVALID_KEY);
        };
        let flight = self.in_flight.enter(digest);
        let mut turn = flight.turn().await;
        if let Some(known) = self.remembered(&digest) {
            return known;
        }
        turn.failed_meanwhile()?;
        let found = self.look_up(digest, &key).await;
        if let Err(error) = &found {
            turn.fail(error);
        }
        found
    }

    fn remembered(self: &Arc<Self>, digest: &Digest) -> Option<Result<Arc<VerifiedKey>, ApiError>> {
        let key = match self.cache.get(digest)? {
            Known::Verified(key) => key,
            Known::Due(key) => {
                self.refresh(*digest, &key);
                key
            }
            Known::Refused => return Some(Err(INVALID_KEY)),
        };
        Some(self.admit(key))
    }

    /// A verified key is as good as its date.
    fn admit(&self, key: Arc<VerifiedKey>) -> Result<Arc<VerifiedKey>, ApiError> {
        if !key.is_current() {
            return Err(ApiError::Unauthorized("the API key has expired"));
        }
        self.cache.used(&key);
        Ok(key)
    }

    async fn look_up(&self, digest: Digest, key: &ApiKey<'_>) -> Result<Arc<VerifiedKey>, ApiError> {
        for _ in 0..TRIES {
            let asked_at = Instant::now();
            let verified = self.verified(digest, key, asked_at).await?;
            if let Some(verified) = self.cache.remember(digest, verified, asked_at) {
                return self.admit(verified);
            }
        }
        Err(ApiError::Unavailable {
            reason: "the API key is being changed",
            retry_after: 1,
        })
    }

    /// Verifies a key that is not in memory.
    async fn verified(
        &self,
        digest: Digest,
        key: &ApiKey<'_>,
        asked_at: Instant,
    ) -> Result<VerifiedKey, ApiError> {
        let id = key.id();
        let proof = self.share.find(&id, &digest).await;
        let row = match &proof {
            None => self.find(&id).await,
            Some(_) => timeout(CONFIRMATION_PATIENCE, self.find(&id))
                .await
                .unwrap_or(Err(DATABASE_SLOW)),
        };
        let row = match (row, &proof) {
            (Err(ApiError::Unavailable { .. }), Some(proof)) if self.is_trusted(proof) => {
                let age = proof.age(UnixMicros::now());
                return Ok(VerifiedKey::hearsay(id, proof.grant.clone(), age));
            }
            (row, _) => row?,
        };
        let Some(row) = row else {
            self.cache.refuse(digest);
            return Err(INVALID_KEY);
        };
        let shown = proof.is_some_and(|proof| proof.shows(&row.grant.fingerprint));
        if !shown && !self.verify(key.as_str(), row.hash).await? {
            self.cache.refuse(digest);
            return Err(INVALID_KEY);
        }
        let verified = VerifiedKey::new(id, row.grant, asked_at);
        if !shown {
            self.share.offer(digest, &verified);
        }
        Ok(verified)
    }

    /// Whether a grant may be trusted without Postgres: as long as one in memory.
    fn is_trusted(&self, proof: &Proof) -> bool {
        proof.age(UnixMicros::now()) < self.config.key_cache_ttl
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRow>, ApiError> {
        let _turn = turn(&self.lookups).await?;
        metrics::counter!("key_lookups_total").increment(1);
        Ok(self.store.find_key(id).await?)
    }

    async fn verify(&self, text: &str, hash: String) -> Result<bool, ApiError> {
        let text = text.to_owned();
        let verify = move || {
            metrics::counter!("key_verifications_total").increment(1);
            api_key::verify(&text, &hash)
        };
        with_argon2(&self.verifications, verify).await
    }

    /// Whether a key was changed after `since`, lately.
    pub fn changed_since(&self, key: &VerifiedKey, since: Instant) -> bool {
        self.cache.key_changed_since(&key.id, since)
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// 503 when too many others are being made.
    pub async fn make_key(&self, prefix: KeyPrefix) -> Result<NewKey, ApiError> {
        let secrets = self.secrets.clone();
        with_argon2(&self.minting, move || secrets.generate(prefix)).await
    }

    /// Asks Postgres again about a key in use, in the background and without argon2. Without an answer the key
    /// stays until its time to live ends.
    fn refresh(self: &Arc<Self>, digest: Digest, key: &Arc<VerifiedKey>) {
        if !key.begin_refresh() {
            return;
        }
        let (this, key) = (self.clone(), key.clone());
        self.tasks.clone().spawn("key refresh", async move {
            let asked_at = Instant::now();
            match this.find(&key.id).await {
                Ok(row) => this.refreshed(digest, &key, row, asked_at),
                Err(_) => key.end_refresh(),
            }
        });
    }

    /// Takes what Postgres says of a key in memory. The verification stands while the hash is the same.
    fn refreshed(&self, digest: Digest, key: &VerifiedKey, row: Option<KeyRow>, asked_at: Instant) {
        let row = row.filter(|row| row.grant.fingerprint == key.grant.fingerprint);
        let Some(row) = row else {
            self.cache.change(&KeyChange::Key(key.id.clone()));
            return;
        };
        let refreshed = VerifiedKey::new(key.id.clone(), row.grant, asked_at);
        if let Some(refreshed) = self.cache.remember(digest, refreshed, asked_at) {
            self.share.offer(digest, &refreshed);
        }
    }

    /// Asks Postgres about every key in memory, because changes may have been missed.
    ///
    /// # Errors
    /// When Postgres does not answer; the keys that were not reached stay as they are.
    pub async fn refresh_all(&self) -> Result<usize, ApiError> {
        let keys = self.cache.back_in_touch();
        for batch in keys.chunks(BATCH) {
            let asked_at = Instant::now();
            let rows = {
                let _turn = turn(&self.lookups).await?;
                let keys = batch.iter().map(|(_, key)| (&key.id, key.grant.org_id));
                self.store.find_keys(keys).await?
            };
            let mut rows: HashMap<_, _> = rows.into_iter().collect();
            for (digest, key) in batch {
                self.refreshed(*digest, key, rows.remove(&key.id), asked_at);
            }
        }
        Ok(keys.len())
    }
}

const BUSY: ApiError = ApiError::Unavailable {
    reason: "too many API keys are being looked up or made",
    retry_after: 1,
};

const DATABASE_SLOW: ApiError = ApiError::Unavailable {
    reason: "the database does not answer in time",
    retry_after: 2,
};

async fn turn(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>, ApiError> {
    match timeout(TURN_PATIENCE, semaphore.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(BUSY),
    }
}

/// Runs what takes 7 MiB and a core for a while: where blocking is allowed, and as many at once as the semaphore
/// says.
async fn with_argon2<T: Send + 'static>(
    semaphore: &Arc<Semaphore>,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, ApiError> {
    let Ok(Ok(turn)) = timeout(TURN_PATIENCE, semaphore.clone().acquire_owned()).await else {
        return Err(BUSY);
    };
    let work = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    let done = work.await.map_err(anyhow::Error::from).flatten();
    done.map_err(ApiError::Internal)
}
