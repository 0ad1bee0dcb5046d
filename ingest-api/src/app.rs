//! The state that the handlers share.

use std::sync::Arc;

use axum::http::HeaderValue;
use shared::egress::EgressConfig;
use shared::secret::SecretsKey;

use crate::config::AdminToken;
use crate::event::recent_ids::RecentIds;
use crate::http::body_limits::BodyLimits;
use crate::http::large_json::AnswerRoom;
use crate::keys::authenticator::Authenticator;
use crate::keys::changes::KeyChanges;
use crate::limits::limiter::RateLimiter;
use crate::limits::tenants::TenantLimits;
use crate::publish::Publisher;
use crate::pulling::Waiters;
use crate::store::Store;

/// The state that the handlers share.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) authenticator: Arc<Authenticator>,
    pub(crate) key_changes: Arc<KeyChanges>,
    pub(crate) rate_limiter: Arc<RateLimiter>,
    pub(crate) tenant_limits: Arc<TenantLimits>,
    pub(crate) publisher: Publisher,
    pub(crate) store: Store,
    pub(crate) waiters: Arc<Waiters>,
    pub(crate) recent_ids: RecentIds,
    pub(crate) allow_signup: bool,
    pub(crate) admin_token: Option<AdminToken>,
    pub(crate) secrets_key: SecretsKey,
    pub(crate) egress: EgressConfig,
    pub(crate) bodies: BodyLimits,
    pub(crate) answers: AnswerRoom,
    pub(crate) cors_origins: Vec<HeaderValue>,
}
