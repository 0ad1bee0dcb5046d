//! What a key may do, for whom, and how often.

use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;

use crate::domain::limit::Limit;
use crate::domain::scope::Scopes;

/// A hash of a key's argon2id hash. It tells whether the stored hash is still the one that a key was verified against,
/// and it does not help to guess the key.
pub(crate) type Fingerprint = [u8; 32];

/// The fingerprint of a PHC string.
pub(crate) fn fingerprint(hash: &str) -> Fingerprint {
    blake3::derive_key("penstock 2026 fingerprint of an API key's hash", hash.as_bytes())
}

/// The rights of a valid key, as Postgres has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Grant {
    /// The organisation that owns the key.
    pub org_id: OrgId,
    /// The organisation's rate limit.
    pub limit: Limit,
    /// What the key may do.
    pub scopes: Scopes,
    /// When it stops being valid.
    pub expires_at: Option<UnixMicros>,
    /// The fingerprint of the hash that the key was verified against.
    pub fingerprint: Fingerprint,
}
