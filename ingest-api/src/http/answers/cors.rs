//! Web pages of other origins that may call the API.

use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::Request;
use axum::http::header::{ACCESS_CONTROL_REQUEST_METHOD, ETAG, LINK, RETRY_AFTER};
use axum::http::{HeaderValue, Method};
use axum::response::Response;
use futures_util::future::Either;
use tower::{Layer, Service};
use tower_http::cors::{AllowHeaders, AllowOrigin, Cors};

use crate::http::answers::rate_headers::{RATE_LIMIT, RATE_LIMIT_POLICY};

/// tower-http's layer answers every OPTIONS as a browser's preflight. CloudEvents' handshake is an OPTIONS too, and must reach
/// its handler.
#[derive(Clone, Debug)]
pub(crate) struct CorsLayer(tower_http::cors::CorsLayer);

impl CorsLayer {
    /// Lets web pages of these origins call the API. None without origins.
    pub(crate) fn new(origins: &[HeaderValue]) -> Option<Self> {
        if origins.is_empty() {
            return None;
        }
        let all = origins.iter().any(|origin| origin == "*");
        let allowed = if all {
            AllowOrigin::any()
        } else {
            AllowOrigin::list(origins.iter().cloned())
        };
        let layer = tower_http::cors::CorsLayer::new()
            .allow_origin(allowed)
            .allow_methods([
                Method::GET,
                Method::POST,
                Method::PUT,
                Method::PATCH,
                Method::DELETE,
            ])
            // Allow what is asked for: `*` excludes `Authorization`, and CloudEvents bring headers of any name.
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers([ETAG, RETRY_AFTER, LINK, RATE_LIMIT, RATE_LIMIT_POLICY])
            .max_age(Duration::from_hours(1));
        Some(Self(layer))
    }
}

impl<S: Clone> Layer<S> for CorsLayer {
    type Service = WithCors<S>;

    fn layer(&self, inner: S) -> WithCors<S> {
        WithCors {
            cors: Box::new(self.0.layer(inner.clone())),
            inner,
        }
    }
}

/// A service that web pages may call.
#[derive(Clone, Debug)]
pub(crate) struct WithCors<S> {
    // In a box: a service is copied for each request, also where no page may call, and the settings take 250 bytes.
    cors: Box<Cors<S>>,
    inner: S,
}

impl<S, B> Service<Request> for WithCors<S>
where
    S: Service<Request, Response = Response<B>>,
    B: Default,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Either<<Cors<S> as Service<Request>>::Future, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        match self.inner.poll_ready(context) {
            Poll::Ready(Ok(())) => self.cors.poll_ready(context),
            other => other,
        }
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let is_handshake = request.method() == Method::OPTIONS
            && !request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        if is_handshake {
            Either::Right(self.inner.call(request))
        } else {
            Either::Left(self.cors.call(request))
        }
    }
}
