//! Authentication and the rate limit, which a request passes before its handler.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use shared::server::Discard;
use tower::{Layer, Service};

use crate::app::App;
use crate::http::admitted::{Admitted, Source, check_limits, within_limit};
use crate::http::callers::{X_API_KEY, bearer_token};
use crate::http::error::ApiError;
use crate::http::portal;
use crate::http::rate_headers;
use crate::keys::moment::Moment;
use crate::keys::portal::PortalTokens;

/// Most bytes that are read of the body of a refused request with a valid key. Its client can then read the answer and
/// keep the connection.
const MAX_DISCARDED_BYTES: usize = 16 * 1024 * 1024;

/// Layer of the routes that need a key: lets a request through as [`Admitted`], and writes the rate-limit
/// headers on every answer.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionLayer(Arc<App>);

impl AdmissionLayer {
    /// A layer that uses this application's keys and rate limits.
    pub(crate) fn new(app: Arc<App>) -> Self {
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

/// The service of [`AdmissionLayer`]. Written by hand, because `from_fn` costs each request three boxes and not one.
#[derive(Clone, Debug)]
pub(crate) struct Admission<S> {
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
        // `poll_ready` has reserved the service that is there, so this request gets it and a clone takes its place.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Box::pin(admit(self.app.clone(), request, inner))
    }
}

async fn admit<S>(app: Arc<App>, mut request: Request, mut inner: S) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    let at = Moment::now();
    let key = match presented_key(request.headers()) {
        Ok(key) if PortalTokens::are_like(key) => {
            let token = key.to_owned();
            Box::pin(portal::let_in(&app, &token, &mut request)).await
        }
        Ok(key) => app
            .authenticator
            .authenticate(key, at)
            .await
            .map_err(ApiError::from),
        Err(error) => Err(error),
    };
    let key = match key {
        Ok(key) => key,
        Err(error) => return Ok(error.into_response()),
    };
    let decision = check_limits(&app, &key.grant, 1);
    let discard = Discard {
        bytes: MAX_DISCARDED_BYTES,
        within: app.bodies.timeout,
    };
    let source = Source::of(request.extensions());
    let admitted = Admitted::new(key, app, at, source, decision);
    if let Err(error) = within_limit(&decision) {
        let mut response = error.into_response();
        response.extensions_mut().insert(discard);
        response.extensions_mut().insert(admitted);
        rate_headers::write(&decision, response.headers_mut());
        return Ok(response);
    }
    request.extensions_mut().insert(admitted.clone());
    let mut response = inner.call(request).await?;
    if !response.status().is_success() {
        response.extensions_mut().insert(discard);
        // For the line in the log.
        response.extensions_mut().insert(admitted.clone());
    }
    rate_headers::write(&admitted.decision(), response.headers_mut());
    Ok(response)
}

/// The key of `Authorization: Bearer …` or `X-API-Key: …`.
fn presented_key(headers: &HeaderMap) -> Result<&str, ApiError> {
    if let Some(value) = headers.get(X_API_KEY) {
        return value
            .to_str()
            .map_err(|_| ApiError::Unauthorized("the API key is not valid"));
    }
    bearer_token(headers).ok_or(ApiError::Unauthorized(
        "send an API key as `Authorization: Bearer …` or `X-API-Key: …`",
    ))
}
