//! An admitted request: its key, and what its organisation's rate limit has left.

mod limits;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::Extensions;
use axum::http::request::Parts;
use shared::server::Arrival;

pub(crate) use self::limits::{check_limits, within_limit};
use crate::app::App;
use crate::domain::access::actor::Actor;
use crate::domain::access::grant::Grant;
use crate::domain::access::key::KeyId;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::{Scope, Scopes};
use crate::domain::access::session::{PortalSession, SignedIn};
use crate::http::error::ApiError;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;
use crate::limits::gcra::Decision;

/// An authenticated request within its organisation's rate limit.
#[derive(Clone, Debug)]
pub(crate) struct Admitted(Arc<Admittance>);

/// Where a request came from.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    address: Option<IpAddr>,
    /// The portal session whose token it has, if it has one.
    portal: Option<Arc<PortalSession>>,
    /// The session of the console, if it has one.
    console: Option<SignedIn>,
}

impl Source {
    /// Takes what was found out of a request before it is admitted. Its arrival is no extension from then on: they would have
    /// to grow for the admission otherwise.
    pub(crate) fn take(extensions: &mut Extensions) -> Self {
        Self {
            address: extensions.remove::<Arrival>().and_then(|arrival| arrival.peer),
            portal: extensions.get().cloned(),
            console: extensions.get().copied(),
        }
    }
}

/// What was decided on a request.
#[derive(Debug)]
pub(crate) struct Admittance {
    key: Arc<VerifiedKey>,
    app: Arc<App>,
    /// A moment before the key was checked.
    at: Moment,
    source: Source,
    // The last decision on this request: what its answer's headers say.
    decision: Mutex<Decision>,
}

impl Admittance {
    /// Whether the key is unchanged since it was checked. None when only waiting can tell.
    pub(crate) fn is_unchanged(&self) -> Option<bool> {
        self.app.authenticator.is_unchanged(&self.key, self.at)
    }

    /// Checks that its key is unchanged since it was checked.
    ///
    /// # Errors
    /// When the key was changed, for example revoked, or when that cannot be known.
    pub(crate) async fn check_unchanged(&self) -> Result<(), KeyChanged> {
        let authenticator = &self.app.authenticator;
        let unchanged = authenticator.is_surely_unchanged(&self.key, self.at).await;
        let unchanged = unchanged && self.has_session().await;
        unchanged.then_some(()).ok_or(KeyChanged)
    }

    /// Whether its session, if it has one, was not ended.
    async fn has_session(&self) -> bool {
        let ended = &self.app.ended_sessions;
        let Source { portal, console, .. } = &self.source;
        let portal = match portal {
            Some(session) => ended.check_portal(session).await,
            None => Ok(()),
        };
        let console = match console {
            Some(SignedIn(id)) => ended.check_console(*id).await,
            None => Ok(()),
        };
        portal.and(console).is_ok()
    }
}

impl Admitted {
    /// Admits a request with `key`, which was checked after `at`.
    pub(crate) fn new(
        key: Arc<VerifiedKey>,
        app: Arc<App>,
        at: Moment,
        source: Source,
        decision: Decision,
    ) -> Self {
        Self(Arc::new(Admittance {
            key,
            app,
            at,
            source,
            decision: Mutex::new(decision),
        }))
    }

    /// What was decided on the request.
    pub(crate) fn admittance(&self) -> &Arc<Admittance> {
        &self.0
    }

    /// Checks that the key is unchanged since it was checked. For handlers that wait before they answer.
    ///
    /// # Errors
    /// 503 when it was changed since: the request should be repeated, and may be refused then.
    pub(crate) async fn check_unchanged(&self) -> Result<(), ApiError> {
        Ok(self.0.check_unchanged().await?)
    }

    /// Whether the key, and its session, are as they were and not over. For answers that go on for long.
    pub(crate) async fn goes_on(&self) -> bool {
        self.0.key.is_current() && self.0.check_unchanged().await.is_ok()
    }

    /// What the key is for, when it has the scope.
    ///
    /// # Errors
    /// 403 when it has not.
    pub(crate) fn realm_with(&self, scope: Scope) -> Result<&Realm, ApiError> {
        match (self.0.key.grant.scopes.contains(scope), scope) {
            (true, _) => Ok(&self.0.key.grant.realm),
            (false, Scope::Ingest) => Err(ApiError::Forbidden("the API key lacks the scope `ingest`")),
            (false, Scope::Manage) => Err(ApiError::Forbidden("the API key lacks the scope `manage`")),
        }
    }

    /// Who asks, for the audit log.
    pub(crate) fn actor(&self) -> Actor {
        let Source { address, portal, .. } = &self.0.source;
        match portal {
            Some(session) => Actor::portal(session.id, *address),
            None => Actor::key(self.0.key.id.clone(), *address),
        }
    }

    /// What the key allows.
    pub(crate) fn grant(&self) -> &Grant {
        &self.0.key.grant
    }

    /// What the key is for.
    pub(crate) fn realm(&self) -> &Realm {
        &self.0.key.grant.realm
    }

    /// The public part of the key.
    pub(crate) fn key_id(&self) -> &KeyId {
        &self.0.key.id
    }

    /// Whether the key may hand these scopes on to another key.
    ///
    /// # Errors
    /// 403 when it lacks one of them.
    pub(crate) fn may_give(&self, scopes: Scopes) -> Result<(), ApiError> {
        match self.0.key.grant.scopes.lacking(scopes) {
            None => Ok(()),
            Some(Scope::Ingest) => Err(ApiError::Forbidden(
                "the API key cannot give the scope `ingest`, which it lacks",
            )),
            Some(Scope::Manage) => Err(ApiError::Forbidden(
                "the API key cannot give the scope `manage`, which it lacks",
            )),
        }
    }

    /// The last decision on the request.
    pub(crate) fn decision(&self) -> Decision {
        *self.0.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Sync> FromRequestParts<S> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let admitted = parts.extensions.get::<Self>().cloned();
        admitted.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a route without the admission layer")))
    }
}

/// The address that a request came from, as long as it is not admitted.
pub(crate) fn address_of(extensions: &Extensions) -> Option<IpAddr> {
    extensions.get::<Arrival>().and_then(|arrival| arrival.peer)
}

/// The key was changed after it was checked. A repeat of the request shows whether it may still be used.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the API key was changed while the request came: send it again")]
pub(crate) struct KeyChanged;

impl From<KeyChanged> for ApiError {
    fn from(_: KeyChanged) -> Self {
        Self::Unavailable {
            reason: "the API key was changed while the request came: send it again",
            retry_after: 1,
        }
    }
}
