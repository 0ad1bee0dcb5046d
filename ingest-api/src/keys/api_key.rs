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

use crate::domain::access::key::{KeyId, KeyText, NewKey, is_base32};

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
mod tests;
