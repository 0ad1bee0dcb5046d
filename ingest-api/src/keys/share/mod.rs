//! Verifications, shared between replicas through a NATS key-value bucket, so that a replica that starts does
//! not run argon2 for every key in use.
//!
//! An entry stands under the key's public id, so that a revocation finds it without the key. It says that the key with
//! this keyed digest was verified against the hash with this fingerprint. That stays true for ever; what the key may do
//! comes from Postgres, as at every look-up. Only when Postgres does not answer soon is the grant in the entry trusted:
//! until it does answer, and at most until `KEY_OUTAGE_TTL` has passed since it last confirmed the grant to anyone. So
//! a revocation must remove the entry, and none may come back: an entry is written over the revision that was read
//! before it was judged, and not for a minute after a removal. An entry that cannot be removed at once is removed later
//! ([`crate::keys::changes::KeyChanges::unshare`]).
//!
//! An attacker who reads NATS sees ids, organisations and limits, but neither keys nor their hashes, and cannot test a
//! guess without `SECRETS_KEY` (with it, 256 random bits remain). An attacker who writes to NATS cannot make an entry,
//! because entries carry a MAC under a key from `SECRETS_KEY`, which covers the id too. An old entry that is put back
//! holds a verification that is still true, and its grant is trusted only within the bounds above. A deleted entry
//! costs a run of argon2.
//!
//! Each write is a disk sync in the same nats-server that stores the events, so writes are few and paced: when
//! a key was verified, and then at most twice in a time to live by whichever replica comes first.

pub(crate) mod bucket;
mod removal;
pub(crate) mod proof;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_nats::jetstream::kv;
use bytes::Bytes;
use shared::domain::clock::UnixMicros;
use shared::process::nats::Nats;
use shared::process::telemetry::Readiness;
use shared::secret::SecretsKey;
use tokio::sync::{Notify, mpsc};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use self::bucket::{BUCKET, PATIENCE, Place, entry};
use self::proof::Proof;
use crate::domain::access::key::KeyId;
use crate::keys::api_key::Digest;
use crate::keys::cache::KeyCache;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;

/// The readiness condition that [`KeyShare::run`] fulfils.
pub(crate) const KEYS_SHARED: &str = "shared keys";

/// The least time between two writes of one replica.
const PACE: Duration = Duration::from_millis(20);

/// Pause before the bucket is asked for again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Entries that wait to be written; further ones are dropped.
const QUEUE: usize = 10_000;

/// An entry to be written.
#[derive(Debug)]
struct Offer {
    id: KeyId,
    proof: Proof,
    asked_at: Moment,
}

/// The replicas' common knowledge of verified keys.
#[derive(Debug)]
pub(crate) struct KeyShare {
    nats: Nats,
    seal_keys: SealKeys,
    bucket: OnceLock<kv::Store>,
    offers: mpsc::Sender<Offer>,
    unwanted: Mutex<HashSet<KeyId>>,
    has_unwanted: Notify,
}

/// The first one seals, each opens. Prints nothing.
struct SealKeys(Vec<Zeroizing<[u8; 32]>>);

impl SealKeys {
    fn open(&self, sealed: &[u8], id: &KeyId) -> Option<Proof> {
        self.0.iter().find_map(|key| Proof::open(sealed, id, key))
    }

    fn seal(&self, proof: &Proof, id: &KeyId) -> Bytes {
        proof.seal(id, &self.0[0])
    }
}

impl std::fmt::Debug for SealKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKeys")
    }
}

/// The entries that are to be written, for [`KeyShare::run`].
#[derive(Debug)]
pub(crate) struct Offers(mpsc::Receiver<Offer>);

impl KeyShare {
    /// Without the bucket, which [`KeyShare::run`] makes.
    pub(crate) fn new(nats: Nats, secrets_key: &SecretsKey) -> (Self, Offers) {
        let (offers, offered) = mpsc::channel(QUEUE);
        let share = Self {
            nats,
            seal_keys: SealKeys(secrets_key.derive_each("penstock 2026 MAC of a shared key verification")),
            bucket: OnceLock::new(),
            offers,
            unwanted: Mutex::default(),
            has_unwanted: Notify::new(),
        };
        (share, Offers(offered))
    }

    /// Looks for a proof that the key with this id was verified. `digests` are the key's.
    pub(crate) async fn find(&self, id: &KeyId, digests: &[Digest]) -> Option<Proof> {
        let bucket = self.bucket.get().filter(|_| self.nats.is_connected())?;
        let entry = match timeout(PATIENCE, bucket.get(id.as_str())).await {
            Ok(Ok(entry)) => entry?,
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot read a shared key");
                return None;
            }
            Err(_) => return None,
        };
        let proof = self.seal_keys.open(&entry, id);
        let proof = proof.filter(|proof| digests.iter().any(|digest| proof.is_of(digest)));
        if proof.is_none() {
            tracing::warn!(key = %id, "a shared key was not written by a replica with this SECRETS_KEY");
        }
        proof
    }

    /// Offers a verified key to the others. It is dropped when too many wait already: sharing only saves work.
    pub(crate) fn offer(&self, digest: Digest, key: &VerifiedKey) {
        let offer = Offer {
            id: key.id.clone(),
            proof: Proof::new(digest, key),
            asked_at: key.confirmed_at,
        };
        if self.offers.try_send(offer).is_err() {
            count("dropped");
        }
    }

    /// Makes the bucket where it is missing and writes the entries that are offered, until the stop. Fulfils
    /// [`KEYS_SHARED`] once NATS has answered, even with an error: without the bucket only more keys must be verified.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub(crate) async fn run(
        self: Arc<Self>,
        bucket: kv::Config,
        mut offers: Offers,
        writing: Writing,
        readiness: Readiness,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        let mut connections = self.nats.connections();
        while !stop.is_cancelled() {
            connections.mark_unchanged();
            let created = self
                .nats
                .jetstream()
                .create_or_update_key_value(bucket.clone())
                .await;
            let created = created.map(|store| self.bucket.get_or_init(|| store));
            if created.is_ok() || self.nats.is_connected() {
                readiness.set(KEYS_SHARED, true);
            }
            let work = async {
                match created {
                    Ok(store) => {
                        while let Some(offer) = offers.0.recv().await {
                            self.write(store, offer, &writing).await;
                        }
                        // Nobody is left who could offer one.
                        stop.cancelled().await;
                    }
                    Err(error) => {
                        if self.nats.is_connected() {
                            tracing::warn!(%error, bucket = BUCKET, "cannot create the bucket, trying again");
                        }
                        tokio::time::sleep(RETRY_PAUSE).await;
                    }
                }
            };
            tokio::select! {
                () = work => {}
                // The server may be a new, empty one.
                () = connections.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn write(&self, store: &kv::Store, offer: Offer, writing: &Writing) {
        let Offer { id, proof, asked_at } = offer;
        let (revision, shared) = match entry(store, &id).await {
            Some(Place::Free(revision)) => (revision, None),
            Some(Place::Taken(revision, sealed)) => (revision, self.seal_keys.open(&sealed, &id)),
            Some(Place::Removed) | None => return,
        };
        let fresh = shared.is_some_and(|shared| {
            shared.grant == proof.grant && shared.age(UnixMicros::now()) < writing.renew_after
        });
        if fresh
            || writing
                .cache
                .changed_since(&id, proof.grant.realm.org_id, asked_at)
        {
            return;
        }
        let sealed = self.seal_keys.seal(&proof, &id);
        match store.update(id.as_str(), sealed, revision).await {
            Ok(_) => count("written"),
            Err(error) => {
                tracing::debug!(%error, key = %id, "cannot share a key");
                count("failed");
            }
        }
        tokio::time::sleep(PACE).await;
    }
}

/// When entries are written.
#[derive(Debug)]
pub(crate) struct Writing {
    /// A key that has changed since it was asked for is not shared.
    pub cache: Arc<KeyCache>,
    /// How old an entry must be before it is written again.
    pub renew_after: Duration,
}

fn count(outcome: &'static str) {
    metrics::counter!("penstock_key_shares_total", "outcome" => outcome).increment(1);
}
