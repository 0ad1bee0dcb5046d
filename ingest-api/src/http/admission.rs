//! What stands before the handlers: authentication and the rate limit. A handler that takes [`Admitted`] or
//! [`Admin`] cannot run without them.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::extract::{FromRequestParts, Request};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use shared::domain::id::OrgId;
use shared::server::Discard;
use tower::{Layer, Service};

use crate::app::App;
use crate::domain::scope::{Scope, Scopes};
use crate::http::error::ApiError;
use crate::http::guarded_body::{GuardedBody, KeyChanged};
use crate::keys::api_key::KeyId;
use crate::keys::moment::Moment;
use crate::keys::verified_key::VerifiedKey;
use crate::limits::gcra::Decision;

/// How much of a body that is refused is read all the same when it is sent with a key.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// An authenticated request within its organisation's rate limit.
#[derive(Clone, Debug)]
pub struct Admitted(Arc<Admittance>);

/// What was decided on a request.
#[derive(Debug)]
pub struct Admittance {
    key: Arc<VerifiedKey>,
    app: Arc<App>,
    /// Before the key was looked at.
    at: Moment,
    // The last decision on this request: what its answer's headers say.
    decision: Mutex<Decision>,
}

impl Admittance {
    /// Whether its key is still the one that was looked at, where that can be said without waiting.
    pub fn is_unchanged(&self) -> Option<bool> {
        self.app.authenticator.is_unchanged(&self.key, self.at)
    }

    /// Whether its key is still the one that was looked at.
    ///
    /// # Errors
    /// When it was changed since: revoked, for example; or when that is not known.
    pub async fn check_unchanged(&self) -> Result<(), KeyChanged> {
        let authenticator = &self.app.authenticator;
        let unchanged = authenticator.is_surely_unchanged(&self.key, self.at).await;
        unchanged.then_some(()).ok_or(KeyChanged)
    }
}

impl Admitted {
    /// Whether the key is still the one that was looked at. Asked by handlers that wait before they answer.
    ///
    /// # Errors
    /// 503 when it was changed since: the request should be repeated, and may be refused then.
    pub async fn check_unchanged(&self) -> Result<(), ApiError> {
        Ok(self.0.check_unchanged().await?)
    }

    /// The organisation, when its key has the scope.
    ///
    /// # Errors
    /// 403 when it has not.
    pub fn organization_with(&self, scope: Scope) -> Result<OrgId, ApiError> {
        match (self.0.key.grant.scopes.contains(scope), scope) {
            (true, _) => Ok(self.0.key.grant.org_id),
            (false, Scope::Ingest) => Err(ApiError::Forbidden("the API key lacks the scope `ingest`")),
            (false, Scope::Manage) => Err(ApiError::Forbidden("the API key lacks the scope `manage`")),
        }
    }

    /// The public part of the key.
    pub fn key_id(&self) -> &KeyId {
        &self.0.key.id
    }

    /// Whether the key may hand these scopes on to another key.
    ///
    /// # Errors
    /// 403 when it lacks one of them.
    pub fn may_give(&self, scopes: Scopes) -> Result<(), ApiError> {
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

    /// Takes `cost` more requests out of the limit: one has been taken on admission, so a batch of `n` events
    /// charges `n - 1`. All of them or none.
    ///
    /// # Errors
    /// 429 when they are not there now; 422 when they exceed the limit, so that they never will be.
    pub fn charge(&self, cost: u64) -> Result<(), ApiError> {
        let grant = &self.0.key.grant;
        if cost >= grant.limit.get() {
            let detail = format!(
                "costs {} requests of a rate limit of {} a minute: send it in parts",
                cost.saturating_add(1),
                grant.limit.get(),
            );
            return Err(ApiError::invalid("body", detail));
        }
        let mut decision = self.0.app.rate_limiter.check(grant.org_id, grant.limit, cost);
        if !decision.admitted {
            decision = decision.for_a_repeat();
        }
        *self.0.decision.lock().unwrap_or_else(PoisonError::into_inner) = decision;
        within_limit(&decision)
    }

    fn decision(&self) -> Decision {
        *self.0.decision.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn within_limit(decision: &Decision) -> Result<(), ApiError> {
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

/// Layer of the routes that need a key: lets a request through as [`Admitted`], and writes the rate-limit
/// headers on every answer.
#[derive(Clone, Debug)]
pub struct AdmissionLayer(Arc<App>);

impl AdmissionLayer {
    /// Admits by what the application knows.
    pub fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission {
            inner,
            app: self.0.clone(),
        }
    }
}

/// What [`AdmissionLayer`] makes of a route. By hand, because `from_fn` costs each request three boxes and not one.
#[derive(Clone, Debug)]
pub struct Admission<S> {
    inner: S,
    app: Arc<App>,
}

impl<S> Service<Request> for Admission<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        // The one that is ready goes along; its clone takes its place.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(admit(self.app.clone(), request, inner))
    }
}

async fn admit<S>(app: Arc<App>, request: Request, mut inner: S) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let at = Moment::now();
    let key = match presented_key(request.headers()) {
        Ok(key) => app.authenticator.authenticate(key, at).await,
        Err(error) => Err(error),
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => return Ok(error.into_response()),
    };
    let decision = app.rate_limiter.check(key.grant.org_id, key.grant.limit, 1);
    let discard = Discard {
        bytes: MAX_DISCARDED_BYTES,
        within: app.bodies.timeout,
    };
    if let Err(error) = within_limit(&decision) {
        let mut response = error.into_response();
        response.extensions_mut().insert(discard);
        decision.write_headers(response.headers_mut());
        return Ok(response);
    }
    let admitted = Admitted(Arc::new(Admittance {
        key,
        app,
        at,
        decision: Mutex::new(decision),
    }));
    let mut request = request.map(|body| GuardedBody::guard(body, &admitted.0));
    request.extensions_mut().insert(admitted.clone());
    let mut response = inner.call(request).await?;
    if !response.status().is_success() {
        response.extensions_mut().insert(discard);
    }
    admitted.decision().write_headers(response.headers_mut());
    Ok(response)
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
