//! Sessions of people: of the console, and of a tenant's portal.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::domain::accounts::limit::Limit;
use crate::domain::accounts::tenant::hash_of;

/// A session's id, which is random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub(crate) struct SessionId(Uuid);

impl SessionId {
    /// A new one.
    pub(crate) fn generate() -> Self {
        Self(Uuid::new_v4())
    }

    /// The underlying UUID.
    pub(crate) fn as_uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Names a tenant among the ended sessions: a hash, which does not tell its id. It outlives a tenant that is deleted, whose
/// sessions must not open the portal of a new tenant of that id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub(crate) struct TenantMark(Uuid);

impl TenantMark {
    /// The mark of an organisation's tenant.
    pub(crate) fn new(org_id: OrgId, tenant: &Tenant) -> Self {
        let purpose = "penstock 2026 tenant of ended sessions";
        Self(hash_of(purpose, org_id, tenant.as_str()))
    }

    /// The underlying UUID.
    pub(crate) fn as_uuid(self) -> Uuid {
        self.0
    }
}

/// The session of the console that a request has, as an extension of the request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SignedIn(pub SessionId);

/// One thing that a session of a portal may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Capability {
    /// See the tenant's events, endpoints and deliveries.
    View,
    /// Make, change, test and delete the tenant's endpoints.
    ManageEndpoints,
    /// See the signing secret that a rotation makes.
    ViewSecrets,
    /// Replay events and recover deliveries.
    Replay,
}

/// A session of a tenant's portal: all that is known of it, carried by its token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PortalSession {
    /// Its id.
    pub id: SessionId,
    /// The organisation that made it.
    pub org_id: OrgId,
    /// The tenant whose people use it.
    pub tenant: Tenant,
    /// What it may do.
    pub capabilities: Vec<Capability>,
    /// What the event types of its endpoints must be within. Empty: anything.
    pub event_types: Vec<EventTypePattern>,
    /// Where its people came from.
    pub return_url: Option<String>,
    /// The organisation's rate limit when the session was made.
    pub limit: Limit,
    /// When it was made, by the clock of Postgres.
    pub made_at: UnixMicros,
    /// When it ends.
    pub expires_at: UnixMicros,
}

impl PortalSession {
    /// One of these capabilities that it has not.
    pub(crate) fn lacks(&self, needed: &[Capability]) -> Option<Capability> {
        let mut needed = needed.iter();
        needed
            .find(|capability| !self.capabilities.contains(capability))
            .copied()
    }

    /// Whether its endpoints may have these event types. None at all means every type.
    pub(crate) fn may_choose(&self, event_types: &[EventTypePattern]) -> bool {
        let every = || self.event_types.iter().any(|allowed| allowed.as_str() == "*");
        let is_within = |chosen: &EventTypePattern| {
            let mut allowed = self.event_types.iter();
            allowed.any(|allowed| covers(allowed, chosen))
        };
        self.event_types.is_empty()
            || every()
            || (!event_types.is_empty() && event_types.iter().all(is_within))
    }
}

/// Whether a pattern matches every type that another one matches.
fn covers(wide: &EventTypePattern, narrow: &EventTypePattern) -> bool {
    match wide.prefix() {
        Some(prefix) => narrow.prefix().unwrap_or(narrow.as_str()).starts_with(prefix),
        None => wide == narrow,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A session with these capabilities and event types.
    pub(crate) fn session(capabilities: &[Capability], event_types: &[&str]) -> PortalSession {
        let now = UnixMicros::now();
        PortalSession {
            id: SessionId::generate(),
            org_id: OrgId::generate(),
            tenant: "acme".parse().unwrap(),
            capabilities: capabilities.to_vec(),
            event_types: event_types.iter().map(|text| text.parse().unwrap()).collect(),
            return_url: None,
            limit: Limit::per_minute(100),
            made_at: now,
            expires_at: UnixMicros::new(now.get() + 60_000_000),
        }
    }

    #[test]
    fn a_session_chooses_among_its_event_types() {
        let types = |texts: &[&str]| -> Vec<EventTypePattern> {
            texts.iter().map(|text| text.parse().unwrap()).collect()
        };
        let bound = session(&[], &["order.*", "invoice.paid"]);
        for good in [
            &["order.created"][..],
            &["order.*"],
            &["order.eu.*", "invoice.paid"],
        ] {
            assert!(bound.may_choose(&types(good)), "{good:?}");
        }
        for bad in [
            &[][..],
            &["*"],
            &["o*"],
            &["invoice.*"],
            &["order.created", "user.made"],
        ] {
            assert!(!bound.may_choose(&types(bad)), "{bad:?}");
        }
        for free in [session(&[], &[]), session(&[], &["*"])] {
            assert!(free.may_choose(&[]) && free.may_choose(&types(&["a*"])));
        }
    }
}
