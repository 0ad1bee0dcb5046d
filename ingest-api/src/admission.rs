//! What stands before the handlers: authentication and the rate limit. A handler that takes [`Admitted`] or
//! [`Admin`] cannot run without them.

use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use shared::id::OrgId;

use crate::auth::{Scope, VerifiedKey};
use crate::error::ApiError;
use crate::router::App;

/// An authenticated request within its organisation's rate limit.
#[derive(Clone, Debug)]
pub struct Admitted(Arc<VerifiedKey>);

impl Admitted {
    /// The organisation, when its key has the scope.
    ///
    /// # Errors
    /// 403 when it has not.
    pub fn organization_with(&self, scope: Scope) -> Result<OrgId, ApiError> {
        match (self.0.allows(scope), scope) {
            (true, _) => Ok(self.0.org_id),
            (false, Scope::Ingest) => Err(ApiError::Forbidden("the API key lacks the scope `ingest`")),
            (false, Scope::Manage) => Err(ApiError::Forbidden("the API key lacks the scope `manage`")),
        }
    }
}

impl<S: Sync> FromRequestParts<S> for Admitted {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let admitted = parts.extensions.get::<Self>().cloned();
        admitted.ok_or_else(|| ApiError::Internal(anyhow::anyhow!("a route without the admission layer")))
    }
}

/// Layer of the routes that need a key: lets a request through as [`Admitted`], and writes the rate-limit
/// headers on every answer.
pub async fn admit(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let key = match presented_key(request.headers()) {
        Ok(key) => app.authenticator.authenticate(key).await,
        Err(error) => Err(error),
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => return error.into_response(),
    };
    let decision = app.rate_limiter.check(key.org_id, key.limit, 1);
    let mut response = if decision.admitted {
        request.extensions_mut().insert(Admitted(key));
        next.run(request).await
    } else {
        ApiError::RateLimited {
            retry_after: decision.reset_seconds(),
        }
        .into_response()
    };
    decision.write_headers(response.headers_mut());
    response
}

/// The key of `Authorization: Bearer …` or `X-API-Key: …`.
fn presented_key(headers: &HeaderMap) -> Result<&str, ApiError> {
    if let Some(value) = headers.get("x-api-key") {
        return value
            .to_str()
            .map_err(|_| ApiError::Unauthorized("the API key is not valid"));
    }
    bearer_token(headers).ok_or(ApiError::Unauthorized(
        "send an API key as `Authorization: Bearer …` or `X-API-Key: …`",
    ))
}

fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// A request with the admin token.
#[derive(Debug)]
pub struct Admin(());

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
