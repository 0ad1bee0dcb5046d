//! Secrets: the key that encrypts at rest, and the endpoints' signing secrets.

use std::fmt;
use std::str::FromStr;

use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};
use data_encoding::BASE64;
use thiserror::Error;
use zeroize::Zeroizing;

use crate::domain::id::EndpointId;

const SIGNING_SECRET_PREFIX: &str = "whsec_";
const SEALED_VERSION: u8 = 1;
const NONCE_LENGTH: usize = 24;

/// Fills an array from the operating system's random source.
///
/// # Panics
/// When the operating system has no random source.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes
}

/// The key under which endpoint secrets are stored: 32 bytes, base64 in the environment.
#[derive(Clone)]
pub struct SecretsKey(Zeroizing<[u8; 32]>);

/// Text that should have been a [`SecretsKey`].
#[derive(Debug, Error)]
#[error("not 32 bytes in base64 (make one with `openssl rand -base64 32`)")]
pub struct InvalidSecretsKey;

impl SecretsKey {
    /// A key for one other purpose, from which neither this key nor those of other purposes can be computed.
    /// `purpose` names it for good, in words that nothing else uses (as BLAKE3's key derivation asks).
    pub fn derive(&self, purpose: &'static str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(purpose, &*self.0))
    }

    /// Encrypts bytes for the database: version, nonce, ciphertext. They open only with the same `context`.
    pub fn seal(&self, plaintext: &[u8], context: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LENGTH] = random_bytes();
        let payload = Payload {
            msg: plaintext,
            aad: context,
        };
        let ciphertext = self
            .cipher()
            .encrypt(&XNonce::from(nonce), payload)
            .expect("what is sealed is far below the cipher's length limit");
        let mut sealed = vec![SEALED_VERSION];
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(&ciphertext);
        sealed
    }

    /// Reverses [`SecretsKey::seal`].
    ///
    /// # Errors
    /// [`SecretError::Sealed`].
    pub fn unseal(&self, sealed: &[u8], context: &[u8]) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let (&version, rest) = sealed.split_first().ok_or(SecretError::Sealed)?;
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_LENGTH>()
            .ok_or(SecretError::Sealed)?;
        if version != SEALED_VERSION {
            return Err(SecretError::Sealed);
        }
        let payload = Payload {
            msg: ciphertext,
            aad: context,
        };
        let plaintext = self
            .cipher()
            .decrypt(&XNonce::from(*nonce), payload)
            .map_err(|_| SecretError::Sealed)?;
        Ok(Zeroizing::new(plaintext))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.0).into())
    }
}

impl FromStr for SecretsKey {
    type Err = InvalidSecretsKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64
            .decode(text.trim().as_bytes())
            .map_err(|_| InvalidSecretsKey)?;
        Ok(Self(Zeroizing::new(
            bytes.try_into().map_err(|_| InvalidSecretsKey)?,
        )))
    }
}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsKey")
    }
}

/// What an endpoint's deliveries are signed with: 24 to 64 bytes, `whsec_` and base64 in text.
#[derive(Clone)]
pub struct SigningSecret(Zeroizing<Vec<u8>>);

/// A signing secret that cannot be read.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Not `whsec_` and base64 of 24 to 64 bytes.
    #[error("not `whsec_` followed by 24 to 64 bytes in base64")]
    Malformed,
    /// Stored under another key, for another endpoint, or damaged.
    #[error("what is stored does not open with SECRETS_KEY")]
    Sealed,
}

impl SigningSecret {
    /// A new random secret.
    pub fn generate() -> Self {
        Self(Zeroizing::new(random_bytes::<32>().to_vec()))
    }

    /// The bytes that go into the HMAC.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The form that is shown to the endpoint's owner, once.
    pub fn to_text(&self) -> String {
        format!("{SIGNING_SECRET_PREFIX}{}", BASE64.encode(&self.0))
    }

    /// Encrypts the secret for the database. It opens for `endpoint` only.
    pub fn seal(&self, key: &SecretsKey, endpoint: EndpointId) -> Vec<u8> {
        key.seal(&self.0, endpoint.as_uuid().as_bytes())
    }

    /// Reverses [`SigningSecret::seal`].
    ///
    /// # Errors
    /// [`SecretError::Sealed`].
    pub fn unseal(sealed: &[u8], key: &SecretsKey, endpoint: EndpointId) -> Result<Self, SecretError> {
        key.unseal(sealed, endpoint.as_uuid().as_bytes()).map(Self)
    }
}

impl FromStr for SigningSecret {
    type Err = SecretError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encoded = text
            .strip_prefix(SIGNING_SECRET_PREFIX)
            .ok_or(SecretError::Malformed)?;
        let bytes = BASE64
            .decode(encoded.as_bytes())
            .map_err(|_| SecretError::Malformed)?;
        if !(24..=64).contains(&bytes.len()) {
            return Err(SecretError::Malformed);
        }
        Ok(Self(Zeroizing::new(bytes)))
    }
}

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SecretsKey {
        BASE64.encode(&random_bytes::<32>()).parse().unwrap()
    }

    #[test]
    fn a_sealed_secret_opens_only_with_its_key_and_for_its_endpoint() {
        let (right, wrong) = (key(), key());
        let (endpoint, other) = (EndpointId::generate(), EndpointId::generate());
        let secret = SigningSecret::generate();
        let mut sealed = secret.seal(&right, endpoint);
        assert_eq!(
            SigningSecret::unseal(&sealed, &right, endpoint)
                .unwrap()
                .as_bytes(),
            secret.as_bytes()
        );
        assert!(SigningSecret::unseal(&sealed, &wrong, endpoint).is_err());
        assert!(SigningSecret::unseal(&sealed, &right, other).is_err());
        assert!(SigningSecret::unseal(&sealed[..20], &right, endpoint).is_err());
        *sealed.last_mut().unwrap() ^= 1;
        assert!(SigningSecret::unseal(&sealed, &right, endpoint).is_err());
    }

    #[test]
    fn a_secret_survives_its_text_form_and_its_debug_form_shows_nothing() {
        let secret = SigningSecret::generate();
        let text = secret.to_text();
        assert_eq!(
            text.parse::<SigningSecret>().unwrap().as_bytes(),
            secret.as_bytes()
        );
        assert_eq!(format!("{secret:?}{:?}", key()), "SigningSecretSecretsKey");
        for wrong in ["", "whsec_", "whsec_AAAA", "AAAA", "whsec_!"] {
            assert!(wrong.parse::<SigningSecret>().is_err(), "{wrong}");
        }
    }
}
