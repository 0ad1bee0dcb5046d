//! API keys: `pk_live_<id>_<secret>`. The id is public and is what a key is looked up by; the secret is 256
//! random bits, and only its argon2id hash is stored.

use std::fmt;
use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher as _, PasswordVerifier as _};
use argon2::{Algorithm, Argon2, Params, Version};
use data_encoding::{BASE32_NOPAD, Encoding};
use serde::Serialize;
use shared::secret::random_bytes;

const PREFIX: &str = "pk_live_";
const ID_BYTES: usize = 10;
const ID_LENGTH: usize = 16;
const SECRET_BYTES: usize = 32;
const SECRET_LENGTH: usize = 52;

/// Memory in KiB, passes and lanes of argon2id: the OWASP cheat sheet's first choice.
const ARGON2: (u32, u32, u32) = (19_456, 2, 1);

/// The public part of a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(transparent)]
pub struct KeyId(Arc<str>);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A whole key, in the hands of its owner. It cannot be printed by accident.
pub struct ApiKey<'a> {
    text: &'a str,
    id: &'a str,
}

impl fmt::Debug for ApiKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApiKey({})", self.id)
    }
}

impl<'a> ApiKey<'a> {
    /// Takes a key apart; nothing is looked up for text that cannot be a key.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_base32 = |part: &str, length| {
            part.len() == length && part.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
        };
        (is_base32(id, ID_LENGTH) && is_base32(secret, SECRET_LENGTH)).then_some(Self { text, id })
    }

    /// The whole key.
    pub fn as_str(&self) -> &'a str {
        self.text
    }

    /// The public part.
    pub fn id(&self) -> KeyId {
        KeyId(self.id.into())
    }
}

/// A key that was just made: shown to its owner once, stored as a hash.
pub struct NewKey {
    /// The public part.
    pub id: KeyId,
    /// The whole key.
    pub text: String,
    /// Its argon2id hash as a PHC string.
    pub hash: String,
}

impl NewKey {
    /// Makes a key. Takes as long as a verification: call it where blocking is allowed.
    ///
    /// # Errors
    /// When argon2 cannot get its memory.
    pub fn generate() -> anyhow::Result<Self> {
        let id = lower_base32(&random_bytes::<ID_BYTES>());
        let secret = lower_base32(&random_bytes::<SECRET_BYTES>());
        let text = format!("{PREFIX}{id}_{secret}");
        let hash: PasswordHash = argon2()?.hash_password(text.as_bytes())?;
        Ok(Self {
            id: KeyId(id.into()),
            text,
            hash: hash.to_string(),
        })
    }
}

/// Whether `key` is the one that `hash` was made of. Blocks for about 20 ms.
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
    const ENCODING: &Encoding = &BASE32_NOPAD;
    ENCODING.encode(bytes).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_parses_and_only_it_verifies() {
        let key = NewKey::generate().unwrap();
        let parsed = ApiKey::parse(&key.text).unwrap();
        assert_eq!(parsed.id(), key.id);
        assert!(
            key.hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{}",
            key.hash
        );
        assert!(verify(&key.text, &key.hash).unwrap());
        assert!(!verify(&NewKey::generate().unwrap().text, &key.hash).unwrap());
        assert!(!format!("{parsed:?}").contains(&key.text));
    }

    #[test]
    fn text_that_cannot_be_a_key_is_refused_without_a_look_up() {
        let good = NewKey::generate().unwrap().text;
        assert!(ApiKey::parse(&good).is_some());
        let upper = good.to_uppercase();
        let longer = format!("{good}a");
        for wrong in [
            "",
            "pk_live_",
            "pk_live_a_b",
            &good[..good.len() - 1],
            &good[1..],
            &upper,
            &longer,
        ] {
            assert!(ApiKey::parse(wrong).is_none(), "{wrong}");
        }
    }
}
