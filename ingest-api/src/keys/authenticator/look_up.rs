//! Looking up a key that is not in memory, or that may have changed since.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use tokio::time::timeout;

use super::turns::{turn, with_argon2};
use super::{Authenticator, Remembered};
use crate::domain::access::grant::Fingerprint;
use crate::domain::access::key::KeyId;
use crate::keys::api_key::{self, ApiKey, Digest};
use crate::keys::cache::KeyChange;
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::share::proof::Proof;
use crate::keys::verified_key::VerifiedKey;
use crate::store::KeyRow;

/// How long Postgres may take to confirm a key that another replica has verified. After that the shared verification is
/// trusted for the time being. So requests wait neither for a Postgres that is away nor for the rush after a restart.
const CONFIRMATION_PATIENCE: Duration = Duration::from_millis(500);

/// The error of a look-up that has no answer within [`CONFIRMATION_PATIENCE`].
const DATABASE_SLOW: KeyError = KeyError::Unavailable {
    reason: "the database does not answer in time",
    retry_after: 2,
};

/// Most look-ups of a key that changes while it is looked up.
const TRIES: usize = 3;

impl Authenticator {
    /// Verifies a key that is not in memory, or that may have changed since.
    pub(super) async fn find_out(
        self: &Arc<Self>,
        digest: Digest,
        key: &str,
    ) -> Result<Arc<VerifiedKey>, KeyError> {
        let Some(key) = self.secrets.recognise(key) else {
            metrics::counter!("penstock_key_forgeries_total").increment(1);
            return Err(KeyError::Invalid);
        };
        let found = self.find_out_alone(digest, &key).await;
        if let Err(KeyError::Unavailable { .. }) = found {
            metrics::counter!("penstock_key_lookup_refusals_total").increment(1);
        }
        found
    }

    /// Verifies a key, one request at a time.
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

    /// Asks Postgres for a key and verifies it. `shown` is the hash that an earlier try verified it against: argon2
    /// need not run again when only the grant has changed since.
    async fn verified(
        &self,
        digest: Digest,
        key: &ApiKey<'_>,
        asked_at: Moment,
        shown: &mut Option<Fingerprint>,
    ) -> Result<VerifiedKey, KeyError> {
        let id = key.id();
        let mut digests = self.secrets.other_digests(key.as_str());
        digests.push(digest);
        let proof = self.share.find(&id, &digests).await;
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

    /// Notes that Postgres does not know a key, or does not know it any more.
    fn refuse(&self, digest: Digest, id: KeyId, is_shared: bool) {
        if self.cache.held(&digest).is_some() {
            self.cache.change(&KeyChange::Key(id.clone()));
        }
        self.cache.refuse(digest);
        if is_shared {
            self.share.discard(id);
        }
    }

    /// Whether a shared grant may be trusted without Postgres: for as long as one in memory, and not when it may be
    /// older than a change.
    fn is_trusted(&self, id: &KeyId, proof: &Proof) -> bool {
        proof.age(UnixMicros::now()) < self.config.key_outage_ttl && !self.cache.changed_lately(id)
    }

    pub(super) async fn find(&self, id: &KeyId) -> Result<Option<KeyRow>, KeyError> {
        let _turn = turn(&self.lookups).await?;
        metrics::counter!("penstock_key_lookups_total").increment(1);
        Ok(self.store.find_key(id).await?)
    }

    async fn verify(&self, text: &str, hash: String) -> Result<bool, KeyError> {
        let text = text.to_owned();
        let verify = move || {
            metrics::counter!("penstock_key_verifications_total").increment(1);
            api_key::verify(&text, &hash)
        };
        with_argon2(&self.verifications, verify).await
    }
}
