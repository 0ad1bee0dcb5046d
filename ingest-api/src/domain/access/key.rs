//! API keys: their public part, the text that only their owner has, and what is shown of them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::access::scope::{Scope, Scopes};

/// Characters of a key's id.
pub(crate) const ID_LENGTH: usize = 16;

/// The public part of a key: 16 characters of lower-case base32.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct KeyId(Box<str>);

impl KeyId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<[u8]> for KeyId {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl TryFrom<Vec<u8>> for KeyId {
    type Error = InvalidKeyId;

    fn try_from(bytes: Vec<u8>) -> Result<Self, InvalidKeyId> {
        let text = std::str::from_utf8(&bytes).map_err(|_| InvalidKeyId)?;
        text.parse()
    }
}

/// Text that is not a key's id.
#[derive(Debug, thiserror::Error)]
#[error("not a key's id")]
pub struct InvalidKeyId;

impl FromStr for KeyId {
    type Err = InvalidKeyId;

    fn from_str(text: &str) -> Result<Self, InvalidKeyId> {
        if is_base32(text, ID_LENGTH) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidKeyId)
        }
    }
}

/// A whole key on its way to its owner, who sees it this once.
#[derive(Serialize)]
#[serde(transparent)]
pub struct KeyText(String);

impl KeyText {
    /// Takes the whole key.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The whole key.
    #[cfg(test)]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for KeyText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyText")
    }
}

/// A key that was just made: shown to its owner once, stored as a hash.
#[derive(Debug)]
pub struct NewKey {
    /// The public part.
    pub id: KeyId,
    /// The whole key.
    pub text: KeyText,
    /// Its argon2id hash as a PHC string.
    pub hash: String,
}

/// An API key, as its owner sees it. The key itself is nowhere but with its owner.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Key {
    /// Its public part.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    #[schema(value_type = Vec<Scope>)]
    pub scopes: Scopes,
    /// The tenant that it is bound to; null for the whole organisation.
    pub tenant: Option<Tenant>,
    /// When it was made.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    pub created_at: OffsetDateTime,
    /// When it stops being valid.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute or so.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    pub revoked_at: Option<OffsetDateTime>,
    /// The key that a rotation made to take its place.
    #[schema(value_type = Option<String>)]
    pub replaced_by: Option<KeyId>,
}

/// Whether a text is lower-case base32 of this length.
pub(crate) fn is_base32(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'))
}
