//! Extractors that say in a handler's signature who may call it. The handler cannot run for anyone else.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use shared::domain::id::OrgId;

use crate::app::App;
use crate::domain::scope::Scope;
use crate::http::admitted::Admitted;
use crate::http::error::ApiError;

/// A request whose key may send events.
#[derive(Clone, Debug)]
pub(crate) struct Producer {
    /// The organisation that owns the key.
    pub org_id: OrgId,
    /// The request as it was let through.
    pub admitted: Admitted,
}

impl<S: Sync> FromRequestParts<S> for Producer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (org_id, admitted) = admitted_with(Scope::Ingest, parts, state).await?;
        Ok(Self { org_id, admitted })
    }
}

/// A request whose key may read and change what its organisation has.
#[derive(Clone, Debug)]
pub(crate) struct Manager {
    /// The organisation that owns the key.
    pub org_id: OrgId,
    /// The request as it was let through.
    pub admitted: Admitted,
}

impl<S: Sync> FromRequestParts<S> for Manager {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let (org_id, admitted) = admitted_with(Scope::Manage, parts, state).await?;
        Ok(Self { org_id, admitted })
    }
}

async fn admitted_with<S: Sync>(
    scope: Scope,
    parts: &mut Parts,
    state: &S,
) -> Result<(OrgId, Admitted), ApiError> {
    let admitted = Admitted::from_request_parts(parts, state).await?;
    Ok((admitted.organization_with(scope)?, admitted))
}

/// A request with the admin token.
#[derive(Debug)]
pub(crate) struct Admin(());

impl FromRequestParts<Arc<App>> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, ApiError> {
        let expected = app.admin_token.as_ref().ok_or(ApiError::NotFound)?;
        match bearer_token(&parts.headers) {
            Some(token) if expected.matches(token) => Ok(Self(())),
            _ => Err(ApiError::Unauthorized(
                "send the admin token as `Authorization: Bearer …`",
            )),
        }
    }
}

/// The token of `Authorization: Bearer …`.
pub(crate) fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}
