//! Telling API keys that were made here from made-up ones.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE64;
use zeroize::Zeroizing;

use super::SecretsKey;

/// With which API keys of one secrets key are told from made-up ones. It opens nothing.
#[derive(Clone)]
pub struct KeyCheck(Zeroizing<[u8; 32]>);

impl KeyCheck {
    /// Those of each key, the current one first.
    pub fn of(key: &SecretsKey) -> Vec<Self> {
        let checks = key.derive_each("penstock 2026 check in an API key");
        checks.into_iter().map(Self).collect()
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// As it stands in `API_KEY_CHECKS`.
    pub fn to_text(&self) -> String {
        BASE64.encode(&*self.0)
    }
}

impl FromStr for KeyCheck {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = BASE64.decode(text.trim().as_bytes()).ok();
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(|bytes| Self(Zeroizing::new(bytes)))
            .ok_or("not 32 bytes in base64, as `delivery-worker secrets-keys` prints them")
    }
}

impl fmt::Debug for KeyCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyCheck")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::random_bytes;

    #[test]
    fn a_check_is_read_as_it_is_printed_and_not_shown() {
        let key: SecretsKey = BASE64.encode(&random_bytes::<32>()).parse().unwrap();
        let check = &KeyCheck::of(&key)[0];
        let read: KeyCheck = check.to_text().parse().unwrap();
        assert_eq!(read.as_bytes(), check.as_bytes());
        assert_eq!(format!("{check:?}"), "KeyCheck");
        assert!("AAAA".parse::<KeyCheck>().is_err());
    }
}
