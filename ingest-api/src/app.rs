//! The state that the handlers share.

use std::sync::Arc;

use axum::http::HeaderValue;
use shared::egress::EgressConfig;
use shared::secret::SecretsKey;
use shared::template::Turns;
use shared::traces::Traces;
use url::Url;

use crate::config::AdminTokens;
use crate::event::recent_ids::RecentIds;
use crate::http::admission::portal_routes::PortalRoutes;
use crate::http::answers::large_json::AnswerRoom;
use crate::http::request::body_limits::BodyLimits;
use crate::keys::authenticator::Authenticator;
use crate::keys::changes::KeyChanges;
use crate::keys::changes::ended::EndedSessions;
use crate::keys::portal::PortalTokens;
use crate::limits::limiter::RateLimiter;
use crate::limits::quotas::Quotas;
use crate::limits::tenants::TenantLimits;
use crate::publish::Publisher;
use crate::publish::streams::Measured;
use crate::pulling::Waiters;
use crate::store::Store;
use crate::tailing::Tails;

/// The state that the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) key_changes: Arc<KeyChanges>,
    pub(crate) rate_limiter: Arc<RateLimiter>,
    pub(crate) tenant_limits: Arc<TenantLimits>,
    pub(crate) quotas: Arc<Quotas>,
    pub(crate) publisher: Publisher,
    pub(crate) streams: Measured,
    pub(crate) store: Store,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) tails: Arc<Tails>,
    pub(crate) recent_ids: RecentIds,
    pub(crate) allow_signup: bool,
    pub(crate) admin_tokens: AdminTokens,
    pub(crate) secrets_key: SecretsKey,
    pub(crate) portal_tokens: PortalTokens,
    pub(crate) portal_routes: PortalRoutes,
    pub(crate) ended_sessions: EndedSessions,
    pub(crate) public_url: Option<Url>,
    pub(crate) egress: EgressConfig,
    pub(crate) bodies: BodyLimits,
    pub(crate) answers: AnswerRoom,
    pub(crate) renders: Turns,
    pub(crate) cors_origins: Vec<HeaderValue>,
    /// Where spans are recorded, if any are.
    pub(crate) traces: Option<Traces>,
    /// Whether events carry their requests' baggage on while spans are recorded.
    pub(crate) carries_baggage: bool,
}
