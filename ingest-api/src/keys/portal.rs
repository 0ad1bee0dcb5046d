//! Tokens of portal sessions: all that is known of a session, sealed under a key that all replicas have. So any replica
//! reads one without a look-up, and nobody else can make or read one.

use data_encoding::{BASE32_NOPAD, BASE64URL_NOPAD};
use serde::Serialize;
use shared::domain::clock::UnixMicros;
use shared::domain::id::OrgId;
use shared::secret::SecretsKey;
use subtle::ConstantTimeEq as _;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::domain::access::grant::Grant;
use crate::domain::access::key::KeyId;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::access::session::PortalSession;
use crate::keys::error::KeyError;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;

/// What every token begins with. No API key does.
const PREFIX: &str = "portal_";

/// What a token is sealed for.
const CONTEXT: &[u8] = b"penstock 2026 session of a portal";

/// Bytes of an organisation's id and of its check in the address of its portal.
const ID_BYTES: usize = 16;
const CHECK_BYTES: usize = 8;

/// A token on its way to its organisation.
#[derive(Serialize)]
#[serde(transparent)]
pub(crate) struct PortalToken(String);

impl PortalToken {
    /// The whole token.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for PortalToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortalToken")
    }
}

/// The secrets with which portal tokens are made and read.
#[derive(Clone)]
pub(crate) struct PortalTokens {
    key: SecretsKey,
    /// Of each key, the current one first.
    addresses: Vec<Zeroizing<[u8; 32]>>,
}

impl std::fmt::Debug for PortalTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PortalTokens")
    }
}

impl PortalTokens {
    /// Derives them from the deployment's secret.
    pub(crate) fn new(key: &SecretsKey) -> Self {
        Self {
            key: key.clone(),
            addresses: key.derive_each("penstock 2026 address of a portal"),
        }
    }

    /// Whether a credential is a portal token, valid or not.
    pub(crate) fn are_like(credential: &str) -> bool {
        credential.starts_with(PREFIX)
    }

    /// The token of a session.
    pub(crate) fn seal(&self, session: &PortalSession) -> PortalToken {
        let plain = rmp_serde::to_vec_named(session).expect("plain fields can be written");
        let sealed = self.key.seal(&plain, CONTEXT);
        PortalToken(format!("{PREFIX}{}", BASE64URL_NOPAD.encode(&sealed)))
    }

    /// The session of a token that is valid `now`, unless it was ended.
    ///
    /// # Errors
    /// When it is no token, or its time is over.
    pub(crate) fn open(&self, token: &str, now: UnixMicros) -> Result<PortalSession, KeyError> {
        let sealed = token.strip_prefix(PREFIX).ok_or(KeyError::Invalid)?;
        let sealed = BASE64URL_NOPAD.decode(sealed.as_bytes());
        let plain = self.key.unseal(&sealed.map_err(|_| KeyError::Invalid)?, CONTEXT);
        let plain = plain.map_err(|_| KeyError::Invalid)?;
        let session: PortalSession =
            rmp_serde::from_slice(&plain).map_err(|error| KeyError::Internal(error.into()))?;
        if session.expires_at <= now {
            return Err(KeyError::Expired);
        }
        Ok(session)
    }

    /// The last part of the path of an organisation's portal. Nobody can make one up, so whoever asks for an address costs a
    /// look-up only where a session was made once.
    pub(crate) fn address(&self, org_id: OrgId) -> String {
        let id = org_id.as_uuid().into_bytes();
        let checks = self.checks(&id).next();
        let check = checks.expect("there is a current key");
        BASE64URL_NOPAD.encode(&[&id[..], &check].concat())
    }

    /// The organisation of an address.
    pub(crate) fn organization(&self, address: &str) -> Option<OrgId> {
        let bytes = BASE64URL_NOPAD.decode(address.as_bytes()).ok()?;
        let (id, check) = bytes.split_first_chunk::<ID_BYTES>()?;
        let is_right = |right: [u8; CHECK_BYTES]| bool::from(right.ct_eq(check));
        self.checks(id)
            .any(is_right)
            .then(|| Uuid::from_bytes(*id).into())
    }

    /// The check of an address under each key, the current one first.
    fn checks(&self, id: &[u8; ID_BYTES]) -> impl Iterator<Item = [u8; CHECK_BYTES]> {
        self.addresses.iter().map(|key| {
            let mut check = [0; CHECK_BYTES];
            let hash = blake3::keyed_hash(key, id);
            check.copy_from_slice(&hash.as_bytes()[..CHECK_BYTES]);
            check
        })
    }
}

/// A session as the key that its requests are made with: one that is bound to the tenant, lives in no table, and may manage.
/// What the session lacks is refused before.
pub(crate) fn as_key(session: &PortalSession, now: Moment) -> Result<VerifiedKey, KeyError> {
    let name = BASE32_NOPAD.encode(&session.id.as_uuid().as_bytes()[..10]);
    let id: KeyId = name
        .to_lowercase()
        .parse()
        .map_err(|error: crate::domain::access::key::InvalidKeyId| KeyError::Internal(error.into()))?;
    let grant = Grant {
        realm: Realm {
            org_id: session.org_id,
            tenant: Some(session.tenant.clone()),
        },
        limit: session.limit,
        scopes: std::iter::once(Scope::Manage).collect::<Scopes>(),
        expires_at: Some(session.expires_at),
        fingerprint: [0; 32],
    };
    Ok(VerifiedKey::new(id, grant, now))
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;

    use super::*;
    use crate::domain::access::session::Capability;
    use crate::domain::access::session::tests::session;

    fn tokens(byte: u8) -> PortalTokens {
        PortalTokens::new(&BASE64.encode(&[byte; 32]).parse().unwrap())
    }

    #[test]
    fn a_token_opens_under_the_same_secret_until_it_expires() {
        let session = session(&[Capability::View], &["order.*"]);
        let token = tokens(1).seal(&session);
        let now = UnixMicros::now();
        assert_eq!(tokens(1).open(token.as_str(), now).unwrap(), session);
        let expired = tokens(1).open(token.as_str(), session.expires_at);
        assert!(matches!(expired, Err(KeyError::Expired)));
        assert!(matches!(
            tokens(2).open(token.as_str(), now),
            Err(KeyError::Invalid)
        ));
        let last = if token.as_str().ends_with('A') { 'B' } else { 'A' };
        let mut forged = token.as_str().to_owned();
        forged.pop();
        forged.push(last);
        for text in [&*forged, "portal_", "portal_!", "pk_live_x", ""] {
            assert!(tokens(1).open(text, now).is_err(), "{text}");
        }
        assert_eq!(format!("{token:?}"), "PortalToken");
    }

    #[test]
    fn an_address_cannot_be_made_up() {
        let org_id = OrgId::generate();
        let address = tokens(1).address(org_id);
        assert_eq!(tokens(1).organization(&address), Some(org_id));
        assert_eq!(tokens(2).organization(&address), None);
        let bare = BASE64URL_NOPAD.encode(org_id.as_uuid().as_bytes());
        for text in [&*bare, "", "!", &address[1..]] {
            assert_eq!(tokens(1).organization(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_made_under_an_earlier_key_is_read() {
        let of_list = |bytes: &[u8]| {
            let keys: Vec<_> = bytes.iter().map(|byte| BASE64.encode(&[*byte; 32])).collect();
            PortalTokens::new(&SecretsKey::of_list(&keys.join(",")).unwrap())
        };
        let session = session(&[Capability::View], &[]);
        let now = UnixMicros::now();
        let (token, address) = (tokens(1).seal(&session), tokens(1).address(session.org_id));
        let rotating = of_list(&[2, 1]);
        assert_eq!(rotating.open(token.as_str(), now).unwrap(), session);
        assert_eq!(rotating.organization(&address), Some(session.org_id));
        let new = rotating.address(session.org_id);
        assert_eq!(of_list(&[2]).organization(&new), Some(session.org_id));
        assert_eq!(of_list(&[2]).organization(&address), None);
    }
}
