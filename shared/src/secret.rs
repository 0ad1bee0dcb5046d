//! Secrets: the key that encrypts at rest, and the endpoints' signing secrets.

mod key;
mod check;
mod settings;

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use thiserror::Error;
use zeroize::Zeroizing;

pub use self::check::KeyCheck;
pub use self::key::{InvalidSecretsKey, SecretsKey, SecretsKeyId, mark_of};
pub use self::settings::SecretsConfig;
use crate::domain::id::EndpointId;

const SIGNING_SECRET_PREFIX: &str = "whsec_";

/// Fills an array from the operating system's random source.
///
/// # Panics
/// When the operating system has no random source.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the operating system has a random source");
    bytes
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
    #[error("what is stored does not open with SECRETS_KEY, or with any of SECRETS_KEYS")]
    Sealed,
    /// Stored under a key that is not there.
    #[error("what is stored is under the key {0}, which is not in SECRETS_KEYS")]
    UnknownKey(SecretsKeyId),
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
        key.seal(&self.0, &Self::context(endpoint))
    }

    /// Reverses [`SigningSecret::seal`].
    ///
    /// # Errors
    /// [`SecretError::Sealed`], [`SecretError::UnknownKey`].
    pub fn unseal(sealed: &[u8], key: &SecretsKey, endpoint: EndpointId) -> Result<Self, SecretError> {
        key.unseal(sealed, &Self::context(endpoint)).map(Self)
    }

    /// What it is sealed with.
    pub fn context(endpoint: EndpointId) -> [u8; 16] {
        *endpoint.as_uuid().as_bytes()
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
