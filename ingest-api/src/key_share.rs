//! Verifications, shared between replicas through a NATS key-value bucket, so that a replica that starts does
//! not run argon2 for every key in use.
//!
//! An entry stands under the key's public id, so that a revocation finds it without the key. It says that the
//! key with this keyed digest was verified against the hash with this fingerprint. That stays true for ever; what
//! the key may do comes from Postgres, as at every look-up. Only when Postgres does not answer soon is the grant
//! in the entry trusted: until it does answer, and at most until the cache's time to live has passed since it
//! last confirmed the grant to anyone.
//!
//! What the bucket gives to an attacker: one who reads NATS sees ids, organisations and limits, but neither
//! keys nor their hashes, and cannot test a guess without `SECRETS_KEY` (with it, 256 random bits remain). One
//! who writes NATS cannot make an entry, because entries carry a MAC under a key from `SECRETS_KEY`, which covers
//! the id too; can put back an old one, which is as true as it was, and grants what it granted only within the
//! bounds above; and can delete entries, which costs argon2 runs.
//!
//! Each write is a disk sync in the same nats-server that stores the events, so writes are few and paced: when
//! a key was verified, and then at most twice in a time to live by whichever replica comes first.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::clock::UnixMicros;
use shared::nats::Nats;
use shared::secret::SecretsKey;
use subtle::ConstantTimeEq as _;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::api_key::{Digest, KeyId};
use crate::config::KeyShareConfig;
use crate::key_cache::KeyCache;
use crate::verified_key::{Fingerprint, Grant, VerifiedKey};

/// The bucket's name.
const BUCKET: &str = "KEYS";

/// How long a read or a removal may take before it is done without.
const PATIENCE: Duration = Duration::from_millis(500);

/// The least time between two writes of one replica.
const PACE: Duration = Duration::from_millis(20);

/// Pause before the bucket is asked for again.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Entries that wait to be written; further ones are dropped.
const QUEUE: usize = 10_000;

const MAC_LENGTH: usize = 32;

/// That a key was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    digest: Digest,
    /// What Postgres granted when it was last asked.
    pub grant: Grant,
    confirmed_at: UnixMicros,
}

impl Proof {
    /// Whether the key was verified against the hash with this fingerprint.
    pub fn shows(&self, fingerprint: &Fingerprint) -> bool {
        self.grant.fingerprint == *fingerprint
    }

    /// How long ago Postgres confirmed the grant.
    pub fn age(&self, now: UnixMicros) -> Duration {
        // Clocks of two machines differ a little: what seems to come from the future is new.
        Duration::from_micros(u64::try_from(now.get() - self.confirmed_at.get()).unwrap_or(0))
    }

    fn seal(&self, id: &KeyId, key: &[u8; 32]) -> Bytes {
        let body = rmp_serde::to_vec_named(self).expect("plain fields have a MessagePack form");
        let mut sealed = mac(id, &body, key).as_bytes().to_vec();
        sealed.extend_from_slice(&body);
        sealed.into()
    }

    /// Reads an entry. Nothing, unless a replica wrote it for this id and this key.
    fn open(sealed: &[u8], id: &KeyId, digest: &Digest, key: &[u8; 32]) -> Option<Self> {
        let (tag, body) = sealed.split_first_chunk::<MAC_LENGTH>()?;
        // `blake3::Hash` compares in constant time.
        if mac(id, body, key) != *tag {
            return None;
        }
        let proof: Self = rmp_serde::from_slice(body).ok()?;
        let same_key: bool = proof.digest.ct_eq(digest).into();
        same_key.then_some(proof)
    }
}

fn mac(id: &KeyId, body: &[u8], key: &[u8; 32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    // Ids have one length, so the two cannot be cut elsewhere.
    hasher.update(id.as_str().as_bytes()).update(body);
    hasher.finalize()
}

/// An entry to be written.
#[derive(Debug)]
struct Offer {
    id: KeyId,
    proof: Proof,
    asked_at: Instant,
}

/// The replicas' common knowledge of verified keys.
#[derive(Debug)]
pub struct KeyShare {
    nats: Nats,
    seal_key: SealKey,
    bucket: OnceLock<kv::Store>,
    offers: mpsc::Sender<Offer>,
}

/// Prints nothing.
struct SealKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey")
    }
}

/// The entries that are to be written, for [`KeyShare::run`].
#[derive(Debug)]
pub struct Offers(mpsc::Receiver<Offer>);

impl KeyShare {
    /// Without the bucket, which [`KeyShare::run`] makes.
    pub fn new(nats: Nats, secrets_key: &SecretsKey) -> (Self, Offers) {
        let (offers, offered) = mpsc::channel(QUEUE);
        let share = Self {
            nats,
            seal_key: SealKey(secrets_key.derive("penstock 2026 MAC of a shared key verification")),
            bucket: OnceLock::new(),
            offers,
        };
        (share, Offers(offered))
    }

    /// Looks for a proof that the key with this id and digest was verified.
    pub async fn find(&self, id: &KeyId, digest: &Digest) -> Option<Proof> {
        let bucket = self.bucket.get().filter(|_| self.nats.is_connected())?;
        let entry = match timeout(PATIENCE, bucket.get(id.as_str())).await {
            Ok(Ok(entry)) => entry?,
            Ok(Err(error)) => {
                tracing::debug!(%error, "cannot read a shared key");
                return None;
            }
            Err(_) => return None,
        };
        let proof = Proof::open(&entry, id, digest, &self.seal_key.0);
        if proof.is_none() {
            tracing::warn!(key = %id, "a shared key was not written by a replica with this SECRETS_KEY");
        }
        proof
    }

    /// Offers a verified key to the others. It is dropped when too many wait already: sharing only saves work.
    pub fn offer(&self, digest: Digest, key: &VerifiedKey) {
        let proof = Proof {
            digest,
            grant: key.grant.clone(),
            confirmed_at: micros_ago(key.confirmed_at.elapsed()),
        };
        let offer = Offer {
            id: key.id.clone(),
            proof,
            asked_at: key.confirmed_at,
        };
        if self.offers.try_send(offer).is_err() {
            count("dropped");
        }
    }

    /// Removes what is shared of a key. Nothing is wrong when that fails: Postgres has the last word.
    pub async fn remove(&self, id: &KeyId) {
        let Some(bucket) = self.bucket.get().filter(|_| self.nats.is_connected()) else {
            return;
        };
        match timeout(PATIENCE, bucket.delete(id.as_str())).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(key = %id, %error, "cannot remove a shared key"),
            Err(_) => tracing::warn!(key = %id, "cannot remove a shared key in time"),
        }
    }

    /// Keeps the bucket in being and writes the entries that are offered, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub async fn run(
        self: Arc<Self>,
        bucket: kv::Config,
        mut offers: Offers,
        writing: Writing,
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
            let work = async {
                match created {
                    Ok(store) => {
                        let store = self.bucket.get_or_init(|| store);
                        while let Some(offer) = offers.0.recv().await {
                            self.write(store, offer, &writing).await;
                        }
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
                _ = connections.changed() => {}
                () = stop.cancelled() => {}
            }
        }
        Ok(())
    }

    async fn write(&self, store: &kv::Store, offer: Offer, writing: &Writing) {
        let Offer { id, proof, asked_at } = offer;
        let shared = self.find(&id, &proof.digest).await;
        let fresh = shared.is_some_and(|shared| {
            shared.grant == proof.grant && shared.age(UnixMicros::now()) < writing.renew_after
        });
        if fresh || writing.cache.changed_since(&id, proof.grant.org_id, asked_at) {
            return;
        }
        match store.put(id.as_str(), proof.seal(&id, &self.seal_key.0)).await {
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
pub struct Writing {
    /// A key that has changed since it was asked for is not shared.
    pub cache: Arc<KeyCache>,
    /// How old an entry must be before it is written again.
    pub renew_after: Duration,
}

/// The bucket. When it is full, further keys are not shared.
pub fn bucket(config: &KeyShareConfig, replicas: u8) -> kv::Config {
    kv::Config {
        bucket: BUCKET.to_owned(),
        description: "API keys that ingest replicas have verified".to_owned(),
        history: 1,
        max_age: config.key_share_ttl,
        max_bytes: config.key_share_max_bytes,
        storage: StorageType::File,
        num_replicas: usize::from(replicas),
        ..kv::Config::default()
    }
}

fn micros_ago(age: Duration) -> UnixMicros {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    UnixMicros::new(UnixMicros::now().get().saturating_sub(age))
}

fn count(outcome: &'static str) {
    metrics::counter!("key_shares_total", "outcome" => outcome).increment(1);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::id::OrgId;
    use shared::secret::random_bytes;

    use super::*;
    use crate::gcra::Limit;
    use crate::scope::Scopes;

    fn proof(digest: Digest, expires_at: Option<i64>) -> Proof {
        let grant = Grant {
            org_id: OrgId::generate(),
            limit: Limit::per_minute(100),
            scopes: Scopes::all(),
            expires_at: expires_at.map(UnixMicros::new),
            fingerprint: random_bytes(),
        };
        Proof {
            digest,
            grant,
            confirmed_at: UnixMicros::now(),
        }
    }

    fn id(letter: char) -> KeyId {
        letter.to_string().repeat(16).parse().unwrap()
    }

    #[test]
    fn an_entry_opens_only_under_its_id_for_its_key_and_with_the_secret() {
        let (secret, other_secret, digest) = (random_bytes(), random_bytes(), random_bytes());
        let proof = proof(digest, None);
        let sealed = proof.seal(&id('a'), &secret);
        assert_eq!(Proof::open(&sealed, &id('a'), &digest, &secret), Some(proof));
        assert_eq!(Proof::open(&sealed, &id('b'), &digest, &secret), None);
        assert_eq!(Proof::open(&sealed, &id('a'), &random_bytes(), &secret), None);
        assert_eq!(Proof::open(&sealed, &id('a'), &digest, &other_secret), None);
    }

    #[test]
    fn an_entry_takes_about_as_many_bytes_as_the_configuration_says() {
        let sealed = proof(random_bytes(), Some(i64::MAX)).seal(&id('a'), &random_bytes());
        // The stream adds its own header, the subject and an index entry.
        assert!((200..350).contains(&sealed.len()), "{}", sealed.len());
    }

    #[test]
    fn what_comes_from_the_future_is_new() {
        let proof = proof(random_bytes(), None);
        let at = proof.confirmed_at.get();
        assert_eq!(
            proof.age(UnixMicros::new(at + 1_500_000)),
            Duration::from_millis(1_500)
        );
        assert_eq!(proof.age(UnixMicros::new(at - 1)), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn no_changed_byte_goes_unnoticed(position in any::<prop::sample::Index>(), change in 1u8..) {
            let (secret, digest) = (random_bytes(), random_bytes());
            let mut sealed = proof(digest, Some(1)).seal(&id('a'), &secret).to_vec();
            let position = position.index(sealed.len());
            sealed[position] ^= change;
            prop_assert_eq!(Proof::open(&sealed, &id('a'), &digest, &secret), None);
        }
    }
}
