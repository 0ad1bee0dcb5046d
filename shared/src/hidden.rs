//! Secrets of any form that their owner gave, as text or as bytes. Their Debug form shows nothing, and they are wiped from
//! memory.

use std::fmt;

use data_encoding::BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

/// A secret text. In JSON it is a string, so only what is sealed, or shows it to its owner once, may hold it.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText")
    }
}

impl Serialize for SecretText {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

/// Secret bytes. In JSON they are a string of base64, so only what is sealed may hold them.
#[derive(Clone, PartialEq, Eq)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// The bytes.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretBytes")
    }
}

impl Serialize for SecretBytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64.encode(&self.0)))
    }
}

impl<'de> Deserialize<'de> for SecretBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = SecretText::deserialize(deserializer)?;
        let bytes = BASE64.decode(text.reveal().as_bytes());
        bytes.map(Self::from).map_err(|_| de::Error::custom("not base64"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_survive_json_and_their_debug_form_shows_nothing() {
        let (text, bytes) = (
            SecretText::from("canary".to_owned()),
            SecretBytes::from(b"canary\xff".to_vec()),
        );
        assert_eq!(format!("{text:?} {bytes:?}"), "SecretText SecretBytes");
        let json = serde_json::to_string(&(&text, &bytes)).unwrap();
        let read: (SecretText, SecretBytes) = serde_json::from_str(&json).unwrap();
        assert_eq!(read, (text, bytes));
        let error = serde_json::from_str::<SecretBytes>("\"canary!\"").unwrap_err();
        assert!(!error.to_string().contains("canary"), "{error}");
    }
}
