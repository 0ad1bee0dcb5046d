//! API keys: `pk_live_<id>_<secret>`, or with `zap_live_` in front. The id is public, and a key is looked up by it. The
//! secret holds 256 random bits, of which only an argon2id hash is stored, and a check: 64 bits of a keyed hash of
//! prefix, id and random bits. Any number of made-up keys are refused by this check, without any I/O.
//!
//! The check makes the secret neither stronger nor weaker. A guessed check (2⁶⁴ tries) or a revoked key costs one look-up
//! in Postgres.

use std::fmt;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::BASE32_NOPAD;
use shared::secret::{KeyCheck, SecretsKey, random_bytes};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::domain::key::{KeyId, KeyText, NewKey, is_base32};

const ID_BYTES: usize = 10;
const RANDOM_BYTES: usize = 32;
const CHECK_BYTES: usize = 8;
const SECRET_BYTES: usize = RANDOM_BYTES + CHECK_BYTES;
const SECRET_LENGTH: usize = 64;

/// Memory in KiB, passes and lanes of argon2id for new keys. OWASP's cheat sheet calls several choices equal; this one takes
/// the least memory, since several hashes run at once. A stored hash is verified with its own parameters.
const ARGON2: (u32, u32, u32) = (7_168, 5, 1);

/// The prefix of a key: which API made it. Either API takes keys of both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyPrefix {
    /// `pk_live_`.
    Penstock,
    /// `zap_live_`, of the Zapier Triggers API.
    Zapier,
}

impl KeyPrefix {
    fn as_str(self) -> &'static str {
        match self {
            Self::Penstock => "pk_live_",
            Self::Zapier => "zap_live_",
        }
    }

    /// Whether a text begins like a key.
    pub(crate) fn is_before(text: &str) -> bool {
        Self::split(text).is_some()
    }

    /// The prefix of a text, and the rest.
    fn split(text: &str) -> Option<(Self, &str)> {
        [Self::Penstock, Self::Zapier]
            .into_iter()
            .find_map(|prefix| Some((prefix, text.strip_prefix(prefix.as_str())?)))
    }
}

/// A keyed hash of a whole key. Memory and the shared bucket hold a key under it.
pub type Digest = [u8; 32];

/// A whole key, in the hands of its owner. It cannot be printed by accident.
pub struct ApiKey<'a> {
    text: &'a str,
    id: KeyId,
}

impl fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.id)
    }
}

impl<'a> ApiKey<'a> {
    /// The whole key.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        self.id.clone()
    }
}

/// The secrets with which keys are made and recognised. They come from `SECRETS_KEY`, so all replicas have the same
/// ones and refuse a key that was made under another `SECRETS_KEY`. Of several secrets keys the first one makes keys.
#[derive(Clone)]
pub struct KeySecrets {
    check: KeyCheck,
    earlier_checks: Vec<KeyCheck>,
    digest: Zeroizing<[u8; 32]>,
    earlier_digests: Vec<Zeroizing<[u8; 32]>>,
}

impl fmt::Debug for KeySecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySecrets")
    }
}

impl KeySecrets {
    /// Derives them from the deployment's secret. `more_checks` are those of secrets keys that are gone.
    pub fn new(secrets_key: &SecretsKey, more_checks: &[KeyCheck]) -> Self {
        let mut checks = KeyCheck::of(secrets_key);
        let mut digests = secrets_key.derive_each("penstock 2026 digest of an API key");
        checks.extend_from_slice(more_checks);
        Self {
            check: checks.remove(0),
            earlier_checks: checks,
            digest: digests.remove(0),
            earlier_digests: digests,
        }
    }

    /// The hash that stands for a whole key.
    pub fn digest(&self, text: &str) -> Digest {
        *blake3::keyed_hash(&self.digest, text.as_bytes()).as_bytes()
    }

    /// The hashes that stand for it at replicas with another one of the secrets keys as their first.
    pub fn other_digests(&self, text: &str) -> Vec<Digest> {
        let digests = self.earlier_digests.iter();
        digests
            .map(|key| *blake3::keyed_hash(key, text.as_bytes()).as_bytes())
            .collect()
    }

    /// Takes a key apart, when it is one that was made here.
    pub fn recognise<'a>(&self, text: &'a str) -> Option<ApiKey<'a>> {
        let (prefix, rest) = KeyPrefix::split(text)?;
        let (id, secret) = rest.split_once('_')?;
        let key_id: KeyId = id.parse().ok()?;
        if !is_base32(secret, SECRET_LENGTH) {
            return None;
        }
        let secret = Zeroizing::new(BASE32_NOPAD.decode(secret.to_uppercase().as_bytes()).ok()?);
        let (random, check) = secret.split_at_checked(RANDOM_BYTES)?;
        let mut keys = std::iter::once(&self.check).chain(&self.earlier_checks);
        let is_right = |key| bool::from(self::check(key, prefix, id, random).ct_eq(check));
        keys.any(is_right).then_some(ApiKey { text, id: key_id })
    }

    /// Makes a key. Takes as long as a verification: call it where blocking is allowed.
    ///
    /// # Errors
    /// When argon2 cannot get its memory.
    pub fn generate(&self, prefix: KeyPrefix) -> anyhow::Result<NewKey> {
        let id = lower_base32(&random_bytes::<ID_BYTES>());
        let mut secret = Zeroizing::new([0; SECRET_BYTES]);
        secret[..RANDOM_BYTES].copy_from_slice(&random_bytes::<RANDOM_BYTES>());
        let check = check(&self.check, prefix, &id, &secret[..RANDOM_BYTES]);
        secret[RANDOM_BYTES..].copy_from_slice(&check);
        let text = format!("{}{id}_{}", prefix.as_str(), lower_base32(&*secret));
        let hash: PasswordHash = argon2()?.hash_password(text.as_bytes())?;
        Ok(NewKey {
            id: id.parse()?,
            text: KeyText::new(text),
            hash: hash.to_string(),
        })
    }
}

fn check(key: &KeyCheck, prefix: KeyPrefix, id: &str, random: &[u8]) -> [u8; CHECK_BYTES] {
    let mut hasher = blake3::Hasher::new_keyed(key.as_bytes());
    // Neither prefix starts with the other and ids have one length, so no other split gives the same bytes.
    let prefix = prefix.as_str().as_bytes();
    hasher.update(prefix).update(id.as_bytes()).update(random);
    let mut check = [0; CHECK_BYTES];
    hasher.finalize_xof().fill(&mut check);
    check
}

/// Whether `key` is the one that `hash` was made of. Blocks for about 11 ms.
///
/// # Errors
/// When `hash` is not a PHC string, or argon2 cannot get its memory.
pub fn verify(key: &str, hash: &str) -> anyhow::Result<bool> {
    let hash = PasswordHash::new(hash)?;
    match argon2()?.verify_password(key.as_bytes(), &hash) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn argon2() -> anyhow::Result<Argon2<'static>> {
    let (memory, passes, lanes) = ARGON2;
    let params = Params::new(memory, passes, lanes, None)?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn lower_base32(bytes: &[u8]) -> String {
    BASE32_NOPAD.encode(bytes).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::KeyPrefix::{Penstock, Zapier};
    use super::*;

    fn secrets() -> KeySecrets {
        let key = data_encoding::BASE64.encode(&random_bytes::<32>());
        KeySecrets::new(&key.parse().unwrap(), &[])
    }

    #[test]
    fn a_new_key_is_recognised_and_only_it_verifies() {
        let secrets = secrets();
        let key = secrets.generate(Penstock).unwrap();
        let recognised = secrets.recognise(key.text.as_str()).unwrap();
        assert_eq!(recognised.id(), key.id);
        assert!(
            key.hash.starts_with("$argon2id$v=19$m=7168,t=5,p=1$"),
            "{}",
            key.hash
        );
        assert!(verify(key.text.as_str(), &key.hash).unwrap());
        let other = secrets.generate(Penstock).unwrap();
        assert!(!verify(other.text.as_str(), &key.hash).unwrap());
        let shown = format!("{recognised:?}{key:?}{secrets:?}");
        assert!(!shown.contains(key.text.as_str()), "{shown}");
    }

    #[test]
    fn a_hash_of_an_earlier_release_is_verified_with_the_parameters_it_was_made_with() {
        let params = Params::new(19_456, 2, 1, None).unwrap();
        let earlier = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let hash = earlier.hash_password(b"pk_live_a_b").unwrap().to_string();
        assert!(hash.contains("m=19456,t=2,p=1"), "{hash}");
        assert!(verify("pk_live_a_b", &hash).unwrap());
        assert!(!verify("pk_live_a_c", &hash).unwrap());
    }

    #[test]
    fn a_key_with_any_other_character_is_not_recognised() {
        let secrets = secrets();
        let good = secrets.generate(Penstock).unwrap().text.as_str().to_owned();
        for position in "pk_live_".len()..good.len() {
            let mut wrong = good.clone().into_bytes();
            wrong[position] = if wrong[position] == b'a' { b'b' } else { b'a' };
            let wrong = String::from_utf8(wrong).unwrap();
            assert!(secrets.recognise(&wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_is_recognised_under_its_own_prefix_only() {
        let secrets = secrets();
        for (own, other) in [(Penstock, Zapier), (Zapier, Penstock)] {
            let key = secrets.generate(own).unwrap();
            assert!(key.text.as_str().starts_with(own.as_str()));
            assert!(verify(key.text.as_str(), &key.hash).unwrap());
            assert_eq!(secrets.recognise(key.text.as_str()).unwrap().id(), key.id);
            let exchanged = key.text.as_str().replacen(own.as_str(), other.as_str(), 1);
            assert!(secrets.recognise(&exchanged).is_none());
        }
    }

    #[test]
    fn text_that_was_not_made_here_is_not_recognised() {
        let secrets = secrets();
        let good = secrets.generate(Penstock).unwrap().text.as_str().to_owned();
        let foreign = self::secrets()
            .generate(Penstock)
            .unwrap()
            .text
            .as_str()
            .to_owned();
        let upper = good.to_uppercase();
        let longer = format!("{good}a");
        let unlike = ["", "pk_live_", "pk_live_a_b", &good[1..], &good[..good.len() - 1]];
        for wrong in unlike.into_iter().chain([&*upper, &*longer, &*foreign]) {
            assert!(secrets.recognise(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_key_of_an_earlier_secrets_key_is_recognised_while_that_or_its_check_is_there() {
        let text = || data_encoding::BASE64.encode(&random_bytes::<32>());
        let (old, new) = (text(), text());
        let before = KeySecrets::new(&old.parse().unwrap(), &[]);
        let key = before.generate(Penstock).unwrap();
        let key = key.text.as_str();
        let rotating = SecretsKey::of_list(&format!("{new},{old}")).unwrap();
        let rotating = KeySecrets::new(&rotating, &[]);
        assert!(rotating.recognise(key).is_some());
        assert_eq!(rotating.other_digests(key), [before.digest(key)]);

        let new: SecretsKey = new.parse().unwrap();
        assert!(KeySecrets::new(&new, &[]).recognise(key).is_none());
        let check = KeyCheck::of(&old.parse().unwrap());
        let rotated = KeySecrets::new(&new, &check);
        assert!(rotated.recognise(key).is_some());
        // It makes no keys that only the old check recognises.
        let made = rotated.generate(Penstock).unwrap();
        assert!(KeySecrets::new(&new, &[]).recognise(made.text.as_str()).is_some());
    }
}
