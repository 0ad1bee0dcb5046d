//! What a key may do, for whom, and how often.

use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;

use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scopes;
use crate::domain::accounts::limit::Limit;

/// A hash of a key's argon2id hash. It tells whether the stored hash is still the one that a key was verified against,
/// and it does not help to guess the key.
pub(crate) type Fingerprint = [u8; 32];

/// The fingerprint of a PHC string.
pub(crate) fn fingerprint(hash: &str) -> Fingerprint {
    blake3::derive_key("penstock 2026 fingerprint of an API key's hash", hash.as_bytes())
}

/// The rights of a valid key, as Postgres has them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "GrantOnWire", into = "GrantOnWire")]
pub(crate) struct Grant {
    /// The organisation that owns the key, or the tenant that it is bound to.
    pub realm: Realm,
    /// The organisation's rate limit.
    pub limit: Limit,
    /// What the key may do.
    pub scopes: Scopes,
    /// When it stops being valid.
    pub expires_at: Option<UnixMicros>,
    /// The fingerprint of the hash that the key was verified against.
    pub fingerprint: Fingerprint,
}

/// A grant as replicas tell it each other. A replica of a release that knows no tenants finds no scope in that of a key
/// which is bound to one.
#[derive(Serialize, Deserialize)]
struct GrantOnWire {
    org_id: OrgId,
    limit: Limit,
    scopes: Scopes,
    expires_at: Option<UnixMicros>,
    fingerprint: Fingerprint,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tenant: Option<(Tenant, Scopes)>,
}

impl From<Grant> for GrantOnWire {
    fn from(grant: Grant) -> Self {
        let Realm { org_id, tenant } = grant.realm;
        let scopes = if tenant.is_some() {
            Scopes::default()
        } else {
            grant.scopes
        };
        Self {
            org_id,
            limit: grant.limit,
            scopes,
            expires_at: grant.expires_at,
            fingerprint: grant.fingerprint,
            tenant: tenant.map(|tenant| (tenant, grant.scopes)),
        }
    }
}

impl From<GrantOnWire> for Grant {
    fn from(wire: GrantOnWire) -> Self {
        let (tenant, scopes) = match wire.tenant {
            Some((tenant, scopes)) => (Some(tenant), scopes),
            None => (None, wire.scopes),
        };
        Self {
            realm: Realm {
                org_id: wire.org_id,
                tenant,
            },
            limit: wire.limit,
            scopes,
            expires_at: wire.expires_at,
            fingerprint: wire.fingerprint,
        }
    }
}
