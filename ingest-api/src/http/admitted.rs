//! An admitted request: its key, and what its organisation's rate limit has left.

use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use shared::domain::id::OrgId;

use crate::app::App;
use crate::domain::grant::Grant;
use crate::domain::key::KeyId;
use crate::domain::realm::Realm;
use crate::domain::scope::{Scope, Scopes};
use crate::http::error::ApiError;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;
use crate::limits::gcra::Decision;
use crate::limits::limiter::AccountId;

/// An authenticated request within its organisation's rate limit.
#[derive(Clone, Debug)]
pub(crate) struct Admitted(Arc<Admittance>);

/// What was decided on a request.
#[derive(Debug)]
pub(crate) struct Admittance {
    key: Arc<VerifiedKey>,
    app: Arc<App>,
    /// A moment before the key was checked.
    at: Moment,
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
        unchanged.then_some(()).ok_or(KeyChanged)
    }
}

impl Admitted {
    /// Admits a request with `key`, which was checked after `at`.
    pub(crate) fn new(key: Arc<VerifiedKey>, app: Arc<App>, at: Moment, decision: Decision) -> Self {
        Self(Arc::new(Admittance {
            key,
            app,
            at,
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

    /// Takes `cost` more requests out of the limit, all or none. Admission has taken one already, so a batch of `n` events
    /// charges `n - 1`.
    ///
    /// # Errors
    /// 429 when the limit has less left; 422 when the whole limit is less than that.
    pub(crate) fn charge(&self, cost: u64) -> Result<(), ApiError> {
        let grant = &self.0.key.grant;
        if cost >= grant.limit.get() {
            let detail = format!(
                "costs {} requests of a rate limit of {} a minute: send it in parts",
                cost.saturating_add(1),
                grant.limit.get(),
            );
            return Err(ApiError::invalid("body", detail));
        }
        let mut decision = check_limits(&self.0.app, grant, cost);
        if !decision.admitted {
            decision = decision.for_a_repeat();
        }
        *self.0.decision.lock().unwrap_or_else(PoisonError::into_inner) = decision;
        within_limit(&decision)
    }

    /// Takes one request out of the own limit of a tenant that the key is not bound to.
    ///
    /// # Errors
    /// 429 when the limit is used up.
    pub(crate) fn charge_tenant(&self, tenant: &str) -> Result<(), ApiError> {
        let org_id = self.0.key.grant.realm.org_id;
        let Some(decision) = check_tenant(&self.0.app, org_id, tenant, 1) else {
            return Ok(());
        };
        let mut last = self.0.decision.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.nearer(decision);
        within_limit(&decision)
    }

    /// The last decision on the request.
    pub(crate) fn decision(&self) -> Decision {
        *self.0.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes `cost` requests out of the organisation's limit, and out of that of the tenant that the key is bound to. Returns the
/// decision that is nearer to a refusal.
pub(crate) fn check_limits(app: &App, grant: &Grant, cost: u64) -> Decision {
    let realm = &grant.realm;
    let check_organization = || app.rate_limiter.check(realm.org_id.into(), grant.limit, cost);
    let Some(of_tenant) = realm
        .tenant()
        .and_then(|tenant| check_tenant(app, realm.org_id, tenant, cost))
    else {
        return check_organization();
    };
    // A request that the tenant may not make costs the others nothing.
    if of_tenant.admitted {
        of_tenant.nearer(check_organization())
    } else {
        of_tenant
    }
}

/// Takes `cost` requests out of a tenant's own limit. None when it has none.
pub(crate) fn check_tenant(app: &App, org_id: OrgId, tenant: &str, cost: u64) -> Option<Decision> {
    let account = || AccountId::of_tenant(org_id, tenant);
    let (account, limit) = app.tenant_limits.find(account)?;
    Some(app.rate_limiter.check(account, limit, cost))
}

/// Refuses a request beyond the limit.
///
/// # Errors
/// 429.
pub(crate) fn within_limit(decision: &Decision) -> Result<(), ApiError> {
    if decision.admitted {
        return Ok(());
    }
    Err(ApiError::RateLimited {
        retry_after: decision.reset_seconds(),
    })
}

impl<S: Sync> FromRequestParts<S> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let admitted = parts.extensions.get::<Self>().cloned();
        admitted.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a route without the admission layer")))
    }
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
