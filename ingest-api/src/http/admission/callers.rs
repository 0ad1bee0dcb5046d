//! Extractors that say in a handler's signature who may call it. The handler cannot run for anyone else.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use shared::domain::id::OrgId;

use crate::app::App;
use crate::config::{AdminScope, AdminToken};
use crate::domain::access::actor::Actor;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scope;
use crate::event::NewEvent;
use crate::http::admission::admitted::{Admitted, address_of};
use crate::http::error::ApiError;

/// Where an API key may stand, besides `Authorization`.
pub(crate) const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A request whose key may send events, and whose quotas are not used up.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    /// Whose events.
    pub realm: Realm,
    /// The request as it was let through.
    pub admitted: Admitted,
}

impl Producer {
    /// Makes an event the tenant's that the key is bound to, if it is bound. Otherwise counts it in its tenant's own limit.
    ///
    /// # Errors
    /// 422 when the event names another tenant than that of the key; 429 when its tenant's limit or quota is used up.
    pub(crate) fn own(&self, event: &mut NewEvent<'_>) -> Result<(), ApiError> {
        self.realm.owner(event.tenant.as_deref())?;
        match (self.realm.tenant(), event.tenant.as_deref()) {
            (Some(own), _) => event.tenant = Some(own.to_owned().into()),
            (None, Some(named)) => {
                self.admitted.check_quota_of(named)?;
                self.admitted.charge_tenant(named)?;
            }
            (None, None) => {}
        }
        Ok(())
    }
}

impl<S: Sync> FromRequestParts<S> for Producer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (realm, admitted) = admitted_with(Scope::Ingest, parts, state).await?;
        admitted.check_quotas()?;
        Ok(Self { realm, admitted })
    }
}

/// A request whose key may read and change what its organisation, or its tenant, has.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    /// What the key is for.
    pub realm: Realm,
    /// The request as it was let through.
    pub admitted: Admitted,
}

impl<S: Sync> FromRequestParts<S> for Manager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (realm, admitted) = admitted_with(Scope::Manage, parts, state).await?;
        Ok(Self { realm, admitted })
    }
}

/// A request whose key may manage the whole organisation. For a key that is bound to a tenant there is nothing here.
#[derive(Clone, Debug)]
pub(crate) struct OrganizationManager {
    /// The organisation that owns the key.
    pub org_id: OrgId,
    /// The request as it was let through.
    pub admitted: Admitted,
}

impl<S: Sync> FromRequestParts<S> for OrganizationManager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        match admitted_with(Scope::Manage, parts, state).await? {
            (Realm { org_id, tenant: None }, admitted) => Ok(Self { org_id, admitted }),
            _ => Err(ApiError::NotFound),
        }
    }
}

async fn admitted_with<S: Sync>(
    scope: Scope,
    parts: &mut Parts,
    state: &S,
) -> Result<(Realm, Admitted), ApiError> {
    let admitted = Admitted::from_request_parts(parts, state).await?;
    Ok((admitted.realm_with(scope)?.clone(), admitted))
}

/// A request with an admin token that may change things.
#[derive(Debug)]
pub(crate) struct Admin {
    /// Who asks, for the audit log.
    pub actor: Actor,
}

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let token = admin_token(parts, app)?;
        if token.scope() < AdminScope::Manage {
            return Err(ApiError::Forbidden("the admin token lacks the scope `manage`"));
        }
        Ok(Self {
            actor: Actor::admin(token.name(), address_of(&parts.extensions)),
        })
    }
}

/// A request with any admin token: each may look.
#[derive(Debug)]
pub(crate) struct AdminReader(());

impl FromRequestParts<Arc<App>> for AdminReader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        admin_token(parts, app).map(|_| Self(()))
    }
}

fn admin_token<'a>(parts: &Parts, app: &'a App) -> Result<&'a AdminToken, ApiError> {
    if app.admin_tokens.is_empty() {
        return Err(ApiError::NotFound);
    }
    let token = bearer_token(&parts.headers).and_then(|text| app.admin_tokens.find(text));
    token.ok_or(ApiError::Unauthorized(
        "send the admin token as `Authorization: Bearer …`",
    ))
}

/// Somebody who makes an organisation, without a key.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// Who asks, for the audit log.
    pub actor: Actor,
}

impl<S: Sync> FromRequestParts<S> for Newcomer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self {
            actor: Actor::sign_up(address_of(&parts.extensions)),
        })
    }
}

/// The token of `Authorization: Bearer …`.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
