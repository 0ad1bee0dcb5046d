//! The key that encrypts at rest, with the keys before it.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use data_encoding::{BASE64, HEXLOWER};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{SecretError, random_bytes};

/// First byte of a ciphertext that does not name its key: nonce and ciphertext follow.
const UNNAMED: u8 = 1;

/// First byte of a ciphertext that names its key: the key's id, nonce and ciphertext follow.
const NAMED: u8 = 2;

const NONCE_LENGTH: usize = 24;
const ID_LENGTH: usize = 8;

/// The key under which secrets are stored, and the keys before it: what is stored under those opens too.
#[derive(Clone)]
pub struct SecretsKey {
    current: OneKey,
    earlier: Vec<OneKey>,
    /// Whether what is sealed names its key. Earlier releases cannot read that.
    names_itself: bool,
}

#[derive(Clone)]
struct OneKey {
    id: SecretsKeyId,
    bytes: Zeroizing<[u8; 32]>,
}

/// Names a key, and tells nothing about it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SecretsKeyId([u8; ID_LENGTH]);

/// Text that should have been a [`SecretsKey`].
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidSecretsKey {
    /// Not a key.
    #[error("not 32 bytes in base64 (make one with `openssl rand -base64 32`)")]
    Malformed,
    /// Not a key, at this place of a list, counted from one.
    #[error("key {0} is not 32 bytes in base64 (make one with `openssl rand -base64 32`)")]
    MalformedAt(usize),
    /// The same key as an earlier one of the list, at this place, counted from one.
    #[error("key {0} stands before it already")]
    Repeated(usize),
}

impl SecretsKey {
    /// Reads keys that commas separate, the current one first.
    ///
    /// # Errors
    /// When one is not a key, or stands twice.
    pub fn of_list(text: &str) -> Result<Self, InvalidSecretsKey> {
        let mut keys: Vec<OneKey> = Vec::new();
        for (index, text) in text.split(',').enumerate() {
            let key = OneKey::parse(text).ok_or(InvalidSecretsKey::MalformedAt(index + 1))?;
            if keys.iter().any(|known| known.id == key.id) {
                return Err(InvalidSecretsKey::Repeated(index + 1));
            }
            keys.push(key);
        }
        let current = keys.remove(0);
        Ok(Self {
            current,
            earlier: keys,
            names_itself: true,
        })
    }

    /// Of each key, the current one first, a key for one other purpose, from which neither the key nor those of other purposes can
    /// be computed. `purpose` names it for good, in words that nothing else uses (as BLAKE3's key derivation asks).
    pub fn derive_each(&self, purpose: &'static str) -> Vec<Zeroizing<[u8; 32]>> {
        self.keys().map(|key| key.derive(purpose)).collect()
    }

    /// The keys' ids, the current one first.
    pub fn ids(&self) -> Vec<SecretsKeyId> {
        self.keys().map(|key| key.id).collect()
    }

    /// Encrypts bytes for the database: a version, the key's id if it names itself, nonce, ciphertext. They open only with
    /// the same `context`.
    pub fn seal(&self, plaintext: &[u8], context: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LENGTH] = random_bytes();
        let payload = Payload {
            msg: plaintext,
            aad: context,
        };
        let ciphertext = self
            .current
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("what is sealed is far below the cipher's length limit");
        let mut sealed = if self.names_itself {
            self.mark()
        } else {
            vec![UNNAMED]
        };
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Reverses [`SecretsKey::seal`], of this key or of one before it.
    ///
    /// # Errors
    /// [`SecretError::UnknownKey`], [`SecretError::Sealed`].
    pub fn unseal(&self, sealed: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (&version, rest) = sealed.split_first().ok_or(SecretError::Sealed)?;
        match version {
            UNNAMED => self
                .keys()
                .find_map(|key| key.open(rest, context))
                .ok_or(SecretError::Sealed),
            NAMED => {
                let (id, rest) = rest.split_first_chunk().ok_or(SecretError::Sealed)?;
                let id = SecretsKeyId(*id);
                let key = self.keys().find(|key| key.id == id);
                let key = key.ok_or(SecretError::UnknownKey(id))?;
                key.open(rest, context).ok_or(SecretError::Sealed)
            }
            _ => Err(SecretError::Sealed),
        }
    }

    /// Encrypts a value for the database, as [`SecretsKey::seal`] does with bytes.
    ///
    /// # Panics
    /// When it cannot be written as JSON.
    pub fn seal_json(&self, value: &impl Serialize, context: &[u8]) -> Vec<u8> {
        let json = serde_json::to_vec(value).expect("every map of what is sealed has strings for keys");
        self.seal(&Zeroizing::new(json), context)
    }

    /// Reverses [`SecretsKey::seal_json`].
    ///
    /// # Errors
    /// [`SecretError::UnknownKey`], [`SecretError::Sealed`].
    pub fn unseal_json<T: DeserializeOwned>(&self, sealed: &[u8], context: &[u8]) -> Result<T, SecretError> {
        let json = self.unseal(sealed, context)?;
        serde_json::from_slice(&json).map_err(|_| SecretError::Sealed)
    }

    /// What the ciphertexts begin with that name the current key.
    pub fn mark(&self) -> Vec<u8> {
        [&[NAMED], self.current.id.0.as_slice()].concat()
    }

    /// The same secret in a ciphertext that names the current key; the one that is given if it does already.
    ///
    /// # Errors
    /// [`SecretError::UnknownKey`], [`SecretError::Sealed`].
    pub fn reseal(&self, sealed: &[u8], context: &[u8]) -> Result<Vec<u8>, SecretError> {
        if sealed.starts_with(&self.mark()) {
            return Ok(sealed.to_vec());
        }
        Ok(self.seal(&self.unseal(sealed, context)?, context))
    }

    /// Whether what is sealed names its key.
    pub fn names_itself(&self) -> bool {
        self.names_itself
    }

    fn keys(&self) -> impl Iterator<Item = &OneKey> {
        std::iter::once(&self.current).chain(&self.earlier)
    }
}

/// What a ciphertext begins with: the same for all that are under one key, as far as they name it. Tells nothing of whether it
/// opens.
pub fn mark_of(sealed: &[u8]) -> &[u8] {
    let length = if sealed.first() == Some(&NAMED) {
        1 + ID_LENGTH
    } else {
        1
    };
    sealed.get(..length).unwrap_or(sealed)
}

impl OneKey {
    fn parse(text: &str) -> Option<Self> {
        let bytes = Zeroizing::new(BASE64.decode(text.trim().as_bytes()).ok()?);
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(bytes.as_slice().try_into().ok()?);
        let digest = blake3::derive_key("penstock 2026 id of a secrets key", &*bytes);
        let mut id = [0; ID_LENGTH];
        id.copy_from_slice(&digest[..ID_LENGTH]);
        Some(Self {
            id: SecretsKeyId(id),
            bytes,
        })
    }

    fn derive(&self, purpose: &'static str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(purpose, &*self.bytes))
    }

    /// Opens nonce and ciphertext.
    fn open(&self, sealed: &[u8], context: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, ciphertext) = sealed.split_first_chunk::<NONCE_LENGTH>()?;
        let payload = Payload {
            msg: ciphertext,
            aad: context,
        };
        let plaintext = self.cipher().decrypt(&XNonce::from(*nonce), payload);
        plaintext.ok().map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.bytes).into())
    }
}

impl FromStr for SecretsKey {
    type Err = InvalidSecretsKey;

    /// One key. What it seals does not name it, so that earlier releases can read that.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self {
            current: OneKey::parse(text).ok_or(InvalidSecretsKey::Malformed)?,
            earlier: Vec::new(),
            names_itself: false,
        })
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsKey")
    }
}

impl SecretsKeyId {
    /// As ciphertexts hold it.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for SecretsKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for SecretsKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests;
