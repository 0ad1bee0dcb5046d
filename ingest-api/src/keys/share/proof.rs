//! The statement that a key was verified, as an entry of the bucket that replicas share
//! ([`crate::keys::share`]): sealed with a MAC under the id that it is about.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use subtle::ConstantTimeEq as _;

use crate::domain::access::grant::{Fingerprint, Grant};
use crate::domain::access::key::KeyId;
use crate::keys::api_key::Digest;
use crate::keys::verified_key::VerifiedKey;

const MAC_LENGTH: usize = 32;

/// That a key was verified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Proof {
    /// The digest of the whole key.
    pub digest: Digest,
    /// What Postgres granted when it was last asked.
    pub grant: Grant,
    confirmed_at: UnixMicros,
}

impl Proof {
    /// The proof of a key in memory.
    pub(crate) fn new(digest: Digest, key: &VerifiedKey) -> Self {
        Self {
            digest,
            grant: key.grant.clone(),
            confirmed_at: micros_ago(key.confirmed_at.elapsed()),
        }
    }

    /// Whether the key was verified against the hash with this fingerprint.
    pub(crate) fn shows(&self, fingerprint: &Fingerprint) -> bool {
        self.grant.fingerprint == *fingerprint
    }

    /// How long ago Postgres confirmed the grant.
    pub(crate) fn age(&self, now: UnixMicros) -> Duration {
        // Clocks of two machines differ a little: what seems to come from the future is new.
        Duration::from_micros(u64::try_from(now.get() - self.confirmed_at.get()).unwrap_or(0))
    }

    /// The entry for this id.
    pub(crate) fn seal(&self, id: &KeyId, key: &[u8; 32]) -> Bytes {
        let body = rmp_serde::to_vec_named(self).expect("plain fields have a MessagePack form");
        let mut sealed = mac(id, &body, key).as_bytes().to_vec();
        sealed.extend_from_slice(&body);
        sealed.into()
    }

    /// Reads an entry. None, unless a replica wrote it for this id.
    pub(crate) fn open(sealed: &[u8], id: &KeyId, key: &[u8; 32]) -> Option<Self> {
        let (tag, body) = sealed.split_first_chunk::<MAC_LENGTH>()?;
        // `blake3::Hash` compares in constant time.
        if mac(id, body, key) != *tag {
            return None;
        }
        rmp_serde::from_slice(body).ok()
    }

    /// Whether it is about the key with this digest.
    pub(crate) fn is_of(&self, digest: &Digest) -> bool {
        self.digest.ct_eq(digest).into()
    }
}

fn mac(id: &KeyId, body: &[u8], key: &[u8; 32]) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new_keyed(key);
    // Ids have one length, so the two cannot be cut elsewhere.
    hasher.update(id.as_str().as_bytes()).update(body);
    hasher.finalize()
}

fn micros_ago(age: Duration) -> UnixMicros {
    let age = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    UnixMicros::new(UnixMicros::now().get().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use shared::domain::id::OrgId;
    use shared::secret::random_bytes;

    use super::*;
    use crate::domain::access::realm::Realm;
    use crate::domain::access::scope::Scopes;
    use crate::domain::accounts::limit::Limit;

    fn proof(digest: Digest, expires_at: Option<i64>) -> Proof {
        let grant = Grant {
            realm: Realm::of_organization(OrgId::generate()),
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
    fn an_entry_opens_only_under_its_id_and_with_the_secret_and_is_of_its_key() {
        let (secret, other_secret, digest) = (random_bytes(), random_bytes(), random_bytes());
        let proof = proof(digest, None);
        assert!(proof.is_of(&digest) && !proof.is_of(&random_bytes()));
        let sealed = proof.seal(&id('a'), &secret);
        assert_eq!(Proof::open(&sealed, &id('a'), &secret), Some(proof));
        assert_eq!(Proof::open(&sealed, &id('b'), &secret), None);
        assert_eq!(Proof::open(&sealed, &id('a'), &other_secret), None);
    }

    #[test]
    fn an_entry_takes_about_as_many_bytes_as_the_configuration_says() {
        let sealed = proof(random_bytes(), Some(i64::MAX)).seal(&id('a'), &random_bytes());
        // The stream adds its own header, the subject and an index entry.
        assert!((200..350).contains(&sealed.len()), "{}", sealed.len());
    }

    #[test]
    fn a_release_without_tenants_reads_no_right_in_the_grant_of_a_tenants_key() {
        #[derive(Deserialize)]
        struct Earlier {
            grant: EarlierGrant,
        }
        #[derive(Deserialize)]
        struct EarlierGrant {
            scopes: Scopes,
        }
        let mut proof = proof(random_bytes(), None);
        let earlier = |proof: &Proof| {
            let body = rmp_serde::to_vec_named(proof).unwrap();
            assert_eq!(rmp_serde::from_slice::<Proof>(&body).unwrap(), *proof);
            rmp_serde::from_slice::<Earlier>(&body).unwrap().grant.scopes
        };
        assert_eq!(earlier(&proof), Scopes::all());
        proof.grant.realm.tenant = Some("acme".parse().unwrap());
        assert!(earlier(&proof).is_empty());
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
            prop_assert_eq!(Proof::open(&sealed, &id('a'), &secret), None);
        }
    }
}
