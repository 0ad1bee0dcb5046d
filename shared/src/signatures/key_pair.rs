//! The Ed25519 key pair of an endpoint, made here. Its private key is shown to nobody.

use std::fmt;
use std::time::Duration;

use data_encoding::BASE64;
use ed25519_dalek::{Signer as _, SigningKey};
use serde::{Deserialize, Serialize};

use crate::hidden::SecretBytes;
use crate::secret::random_bytes;

const PUBLIC_PREFIX: &str = "whpk_";

/// A key pair, and the one before the last rotation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyPair {
    seed: SecretBytes,
    previous: Option<Previous>,
}

/// A key pair that signs until a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Previous {
    seed: SecretBytes,
    /// Unix seconds.
    expires_at: i64,
}

/// A private key, ready to sign.
pub struct Ed25519Key(SigningKey);

impl fmt::Debug for Ed25519Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ed25519Key")
    }
}

impl Ed25519Key {
    /// The signature of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The public key as receivers are given it: `whpk_` and base64.
    pub fn public_text(&self) -> String {
        format!(
            "{PUBLIC_PREFIX}{}",
            BASE64.encode(self.0.verifying_key().as_bytes())
        )
    }
}

impl KeyPair {
    /// A new random key pair.
    pub fn generate() -> Self {
        Self {
            seed: random_bytes::<32>().to_vec().into(),
            previous: None,
        }
    }

    /// A new random key pair. The present one goes on signing for the overlap; one from before it stops.
    #[must_use]
    pub fn rotated(self, now: i64, overlap: Duration) -> Self {
        let overlap = i64::try_from(overlap.as_secs()).unwrap_or(i64::MAX);
        let previous = Previous {
            seed: self.seed,
            expires_at: now.saturating_add(overlap),
        };
        Self {
            previous: (overlap > 0).then_some(previous),
            ..Self::generate()
        }
    }

    /// The key that signs; `None` when what was stored is no key.
    pub fn key(&self) -> Option<Ed25519Key> {
        read(&self.seed)
    }

    /// The key before the last rotation, and when it expires in Unix seconds.
    pub fn previous(&self) -> Option<(Ed25519Key, i64)> {
        let previous = self.previous.as_ref()?;
        Some((read(&previous.seed)?, previous.expires_at))
    }
}

fn read(seed: &SecretBytes) -> Option<Ed25519Key> {
    let seed = seed.reveal().try_into().ok()?;
    Some(Ed25519Key(SigningKey::from_bytes(seed)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_keeps_the_key_before_it_for_the_overlap() {
        let first = KeyPair::generate();
        let text = |key: Option<Ed25519Key>| key.unwrap().public_text();
        let second = first.clone().rotated(1_000, Duration::from_secs(60));
        let (previous, expires_at) = second.previous().unwrap();
        assert_eq!((previous.public_text(), expires_at), (text(first.key()), 1_060));
        assert_ne!(text(second.key()), text(first.key()));
        let third = second.clone().rotated(1_001, Duration::from_secs(1));
        assert_eq!(
            third.previous().map(|(key, at)| (key.public_text(), at)),
            Some((text(second.key()), 1_002))
        );
        assert!(third.rotated(1_002, Duration::ZERO).previous().is_none());
        assert!(!format!("{first:?}").contains(&BASE64.encode(first.seed.reveal())));
    }

    /// RFC 8032, section 7.1, test 2.
    #[test]
    fn the_specifications_example_comes_out() {
        let seed = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb";
        let key = KeyPair {
            seed: data_encoding::HEXLOWER.decode(seed.as_bytes()).unwrap().into(),
            previous: None,
        };
        let key = key.key().unwrap();
        assert_eq!(
            data_encoding::HEXLOWER.encode(&key.sign(&[0x72])),
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da\
             085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        );
        assert_eq!(
            key.public_text(),
            "whpk_PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="
        );
    }
}
