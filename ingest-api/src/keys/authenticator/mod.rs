//! Who sends a request: API keys are verified once and then answered from memory.
//!
//! A verified key is kept in memory under a keyed BLAKE3 hash of the whole key. So the usual request costs one short
//! hash and one map read: no argon2, no await, and no plaintext key in memory. A key that is not in memory passes three
//! gates, each more expensive than the one before. The check in the key refuses made-up keys without any I/O. A look-up
//! in Postgres, few at once, refuses unknown and revoked ids. Last comes argon2, on the blocking pool and behind a
//! semaphore, unless another replica has shared that it verified this key. However many requests wait for a key, one of
//! them passes the gates for all, and they fail together when it fails.
//!
//! How long a key can outlive its revocation: a replica forgets the key on a signal, within a second
//! ([`crate::keys::changes`]). A replica that was frozen, or that reaches neither NATS nor Postgres, cannot know
//! whether there was a signal ([`crate::keys::changes::hearing`]). It trusts nothing in memory: it catches up, or looks the key
//! up like an unknown one. While only Postgres is away, a verified key stays valid for `KEY_OUTAGE_TTL` after Postgres
//! last confirmed it, in memory as in the shared bucket. In that time every revocation is signalled.

mod look_up;
mod refresh;
mod turns;

use std::sync::Arc;

use shared::process::shutdown::Tasks;
use tokio::sync::Semaphore;

use self::turns::with_argon2;
use crate::config::KeyCacheConfig;
use crate::domain::access::key::NewKey;
use crate::keys::api_key::{Digest, KeyPrefix, KeySecrets};
use crate::keys::cache::{KeyCache, Known};
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::share::KeyShare;
use crate::keys::single_flight::Flights;
use crate::keys::verified_key::VerifiedKey;
use crate::store::Store;

/// What memory knows of a key.
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

/// The parts of an [`Authenticator`].
#[derive(Debug)]
pub(crate) struct AuthenticatorParts {
    /// The secrets with which keys are recognised.
    pub secrets: KeySecrets,
    /// The keys in memory.
    pub cache: Arc<KeyCache>,
    /// The verifications that replicas share.
    pub share: Arc<KeyShare>,
    /// Postgres.
    pub store: Store,
    /// The tasks in which refreshes run.
    pub tasks: Tasks,
}

impl Authenticator {
    /// An authenticator that knows the keys of the cache.
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

    /// What memory knows of `key`, for a request that came `now`. None when it has to be verified.
    pub(crate) fn known(
        self: &Arc<Self>,
        key: &str,
        now: Moment,
    ) -> Option<Result<Arc<VerifiedKey>, KeyError>> {
        match self.remembered(&self.secrets.digest(key), now) {
            Remembered::Known(known) => Some(known),
            Remembered::Unknown | Remembered::Unsure => None,
        }
    }

    /// Verifies `key`, for a request that came `now`.
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

    /// Accepts a verified key, unless it has expired.
    fn admit(&self, key: Arc<VerifiedKey>, now: Moment) -> Result<Arc<VerifiedKey>, KeyError> {
        if !key.is_current() {
            return Err(KeyError::Expired);
        }
        self.cache.used(&key, now);
        Ok(key)
    }

    /// Whether a key is unchanged since `since`. None when only waiting can tell.
    pub(crate) fn is_unchanged(&self, key: &VerifiedKey, since: Moment) -> Option<bool> {
        let hearing = self.cache.hearing();
        hearing
            .vouches_for(since, Moment::now())
            .then(|| !self.cache.key_changed_since(&key.id, since))
    }

    /// The same, after catching up where that is needed. False when it cannot be known.
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
