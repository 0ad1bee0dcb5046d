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
//! ([`crate::keys::changes`]). One that cannot know whether there was a signal ([`crate::keys::hearing`]), because it was frozen or
//! reaches neither NATS nor Postgres, trusts nothing in memory: it catches up, or looks the key up like one that it does not
//! know. While only Postgres is away a verified key stays valid for `KEY_OUTAGE_TTL` after Postgres last confirmed it, in
//! memory as in the shared bucket, for nothing is revoked then that is not signalled.

mod refresh;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::process::shutdown::Tasks;
use tokio::sync::Semaphore;
use tokio::time::timeout;

use self::turns::{turn, with_argon2};
use crate::config::KeyCacheConfig;
use crate::domain::grant::Fingerprint;
use crate::domain::key::{KeyId, NewKey};
use crate::keys::api_key::{self, ApiKey, Digest, KeyPrefix, KeySecrets};
use crate::keys::cache::{KeyCache, KeyChange, Known};
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::proof::Proof;
use crate::keys::share::KeyShare;
use crate::keys::single_flight::Flights;
use crate::keys::verified_key::VerifiedKey;
use crate::store::{KeyRow, Store};

/// How long Postgres may take to confirm a key that another replica has verified. Then that is trusted for the
/// time being, so that neither a Postgres that is away nor the rush after a restart makes requests wait.
const CONFIRMATION_PATIENCE: Duration = Duration::from_millis(500);

/// What a look-up without an answer in [`CONFIRMATION_PATIENCE`] fails with.
const DATABASE_SLOW: KeyError = KeyError::Unavailable {
    reason: "the database does not answer in time",
    retry_after: 2,
};

/// How often a key is asked for that changes while it is being asked for.
const TRIES: usize = 3;

/// What is known of a key without asking anyone.
enum Remembered {
    Known(Result<Arc<VerifiedKey>, KeyError>),
    Unknown,
    Unsure,
}

/// Verifies keys and remembers the outcome.
#[derive(Debug)]
pub(crate) struct Authenticator {
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
pub(crate) struct AuthenticatorParts {
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
    pub(crate) fn new(config: KeyCacheConfig, parts: AuthenticatorParts) -> Self {
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

    /// Finds out who holds `key`, for a request that came `now`.
    ///
    /// # Errors
    /// For anything that is not a valid key; and when the key is not in memory and Postgres is away, or too many other
    /// keys are being looked up.
    pub(crate) async fn authenticate(
        self: &Arc<Self>,
        key: &str,
        now: Moment,
    ) -> Result<Arc<VerifiedKey>, KeyError> {
        let digest = self.secrets.digest(key);
        match self.remembered(&digest, now) {
            Remembered::Known(known) => known,
            // In a box: it is rare, and would make every request's future several times as large.
            Remembered::Unknown => Box::pin(self.find_out(digest, key)).await,
            Remembered::Unsure => {
                Box::pin(async {
                    self.cache.hearing().catch_up().await;
                    self.find_out(digest, key).await
                })
                .await
            }
        }
    }

    /// Finds out about a key that is not remembered, or not for sure.
    async fn find_out(self: &Arc<Self>, digest: Digest, key: &str) -> Result<Arc<VerifiedKey>, KeyError> {
        let Some(key) = self.secrets.recognise(key) else {
            metrics::counter!("key_forgeries_total").increment(1);
            return Err(KeyError::Invalid);
        };
        let found = self.find_out_alone(digest, &key).await;
        if let Err(KeyError::Unavailable { .. }) = found {
            metrics::counter!("key_lookup_refusals_total").increment(1);
        }
        found
    }

    /// Finds out about a key, one request at a time.
    async fn find_out_alone(
        self: &Arc<Self>,
        digest: Digest,
        key: &ApiKey<'_>,
    ) -> Result<Arc<VerifiedKey>, KeyError> {
        let flight = self.in_flight.enter(digest);
        let mut turn = flight.turn().await;
        if let Remembered::Known(known) = self.remembered(&digest, Moment::now()) {
            return known;
        }
        turn.failed_meanwhile()?;
        let found = self.look_up(digest, key).await;
        if let Err(error) = &found {
            turn.fail(error);
        }
        found
    }

    fn remembered(self: &Arc<Self>, digest: &Digest, now: Moment) -> Remembered {
        let key = match self.cache.get(digest, now) {
            None => return Remembered::Unknown,
            Some(Known::Unsure) => return Remembered::Unsure,
            Some(Known::Refused) => return Remembered::Known(Err(KeyError::Invalid)),
            Some(Known::Verified(key)) => key,
            Some(Known::Due(key)) => {
                self.refresh(*digest, &key, now);
                key
            }
        };
        Remembered::Known(self.admit(key, now))
    }

    /// A verified key is as good as its date.
    fn admit(&self, key: Arc<VerifiedKey>, now: Moment) -> Result<Arc<VerifiedKey>, KeyError> {
        if !key.is_current() {
            return Err(KeyError::Expired);
        }
        self.cache.used(&key, now);
        Ok(key)
    }

    async fn look_up(&self, digest: Digest, key: &ApiKey<'_>) -> Result<Arc<VerifiedKey>, KeyError> {
        let mut shown = None;
        for _ in 0..TRIES {
            let asked_at = Moment::now();
            let verified = self.verified(digest, key, asked_at, &mut shown).await?;
            if let Some(verified) = self.cache.remember(digest, verified, asked_at) {
                // The process may have been frozen since.
                let now = Moment::now();
                if self.cache.hearing().vouches_for(asked_at, now) {
                    return self.admit(verified, now);
                }
            }
        }
        Err(KeyError::Unavailable {
            reason: "the API key is being changed",
            retry_after: 1,
        })
    }

    /// Verifies a key that is not in memory, or not for sure. `shown` is the hash that it was verified against: an
    /// earlier try need not run argon2 again when only the grant has changed since.
    async fn verified(
        &self,
        digest: Digest,
        key: &ApiKey<'_>,
        asked_at: Moment,
        shown: &mut Option<Fingerprint>,
    ) -> Result<VerifiedKey, KeyError> {
        let id = key.id();
        let proof = self.share.find(&id, &digest).await;
        let row = match &proof {
            None => self.find(&id).await,
            Some(_) => timeout(CONFIRMATION_PATIENCE, self.find(&id))
                .await
                .unwrap_or(Err(DATABASE_SLOW)),
        };
        let row = match (row, &proof) {
            (Err(error), Some(proof)) if self.is_trusted(&id, proof) => {
                if let KeyError::Internal(error) = error {
                    tracing::error!(error = format!("{error:#}"), "cannot look up an API key");
                }
                let age = proof.age(UnixMicros::now());
                return Ok(VerifiedKey::hearsay(id, proof.grant.clone(), age, asked_at));
            }
            (row, _) => row?,
        };
        let Some(row) = row else {
            self.refuse(digest, id, proof.is_some());
            return Err(KeyError::Invalid);
        };
        let shared = proof.is_some_and(|proof| proof.shows(&row.grant.fingerprint));
        let held = || self.cache.held(&digest);
        let is_shown = shared
            || *shown == Some(row.grant.fingerprint)
            || held().is_some_and(|held| held.grant.fingerprint == row.grant.fingerprint);
        if !is_shown && !self.verify(key.as_str(), row.hash).await? {
            self.cache.refuse(digest);
            return Err(KeyError::Invalid);
        }
        *shown = Some(row.grant.fingerprint);
        let verified = VerifiedKey::new(id, row.grant, asked_at);
        if !shared {
            self.share.offer(digest, &verified);
        }
        Ok(verified)
    }

    /// Postgres does not know a key, or not any more.
    fn refuse(&self, digest: Digest, id: KeyId, is_shared: bool) {
        if self.cache.held(&digest).is_some() {
            self.cache.change(&KeyChange::Key(id.clone()));
        }
        self.cache.refuse(digest);
        if is_shared {
            self.share.discard(id);
        }
    }

    /// Whether a grant may be trusted without Postgres: as long as one in memory, and not when it may be from before a
    /// change.
    fn is_trusted(&self, id: &KeyId, proof: &Proof) -> bool {
        proof.age(UnixMicros::now()) < self.config.key_outage_ttl && !self.cache.changed_lately(id)
    }

    async fn find(&self, id: &KeyId) -> Result<Option<KeyRow>, KeyError> {
        let _turn = turn(&self.lookups).await?;
        metrics::counter!("key_lookups_total").increment(1);
        Ok(self.store.find_key(id).await?)
    }

    async fn verify(&self, text: &str, hash: String) -> Result<bool, KeyError> {
        let text = text.to_owned();
        let verify = move || {
            metrics::counter!("key_verifications_total").increment(1);
            api_key::verify(&text, &hash)
        };
        with_argon2(&self.verifications, verify).await
    }

    /// Whether a key is what it was `since` then, as far as can be said without waiting.
    pub(crate) fn is_unchanged(&self, key: &VerifiedKey, since: Moment) -> Option<bool> {
        let hearing = self.cache.hearing();
        hearing
            .vouches_for(since, Moment::now())
            .then(|| !self.cache.key_changed_since(&key.id, since))
    }

    /// The same, after catching up where that is needed. False when it cannot be said.
    pub(crate) async fn is_surely_unchanged(&self, key: &VerifiedKey, since: Moment) -> bool {
        if let Some(is_unchanged) = self.is_unchanged(key, since) {
            return is_unchanged;
        }
        self.cache.hearing().catch_up().await;
        self.is_unchanged(key, since).unwrap_or(false)
    }

    /// Makes a new key.
    ///
    /// # Errors
    /// When too many others are being made.
    pub(crate) async fn make_key(&self, prefix: KeyPrefix) -> Result<NewKey, KeyError> {
        let secrets = self.secrets.clone();
        with_argon2(&self.minting, move || secrets.generate(prefix)).await
    }
}
