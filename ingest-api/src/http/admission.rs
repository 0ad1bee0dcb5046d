//! Authentication and the rate limit, which a request passes before its handler.

pub(crate) mod admitted;
pub(crate) mod callers;
pub(crate) mod portal;
pub(crate) mod portal_routes;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Context, Poll};

use axum::extract::Request;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, Ready, ready};
use pin_project_lite::pin_project;
use shared::server::Discard;
use tower::{Layer, Service};

use self::admitted::{Admitted, Source, check_limits, within_limit};
use self::callers::{X_API_KEY, bearer_token};
use crate::app::App;
use crate::http::answers::rate_headers;
use crate::http::error::ApiError;
use crate::keys::moment::Moment;
use crate::keys::portal::PortalTokens;
use crate::keys::verified_key::VerifiedKey;

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

/// The service of [`AdmissionLayer`]. Written by hand, because the usual request, whose key is in memory, needs no box.
#[derive(Clone, Debug)]
pub(crate) struct Admission<S> {
    inner: S,
    app: Arc<App>,
}

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl<S> Service<Request> for Admission<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Admitting<S::Future, S::Error>, Boxed<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let at = Moment::now();
        if let Some(key) = self.known_key(request.headers(), at) {
            return Either::Left(self.admit(key, at, request));
        }
        // `poll_ready` has reserved the service that is there, so this request gets it and a clone takes its place.
        let next = self.clone();
        let this = std::mem::replace(self, next);
        Either::Right(Box::pin(this.look_up_and_admit(at, request)))
    }
}

impl<S> Admission<S>
where
    S: Service<Request, Response = Response>,
{
    /// The key of a request, or why it has none. None when only waiting can tell.
    fn known_key(&self, headers: &HeaderMap, at: Moment) -> Option<Result<Arc<VerifiedKey>, ApiError>> {
        match presented_key(headers) {
            Ok(key) if PortalTokens::are_like(key) => None,
            Ok(key) => {
                let known = self.app.authenticator.known(key, at)?;
                Some(known.map_err(ApiError::from))
            }
            Err(error) => Some(Err(error)),
        }
    }

    async fn look_up_and_admit(mut self, at: Moment, mut request: Request) -> Result<Response, S::Error> {
        let key = match presented_key(request.headers()) {
            Ok(key) if PortalTokens::are_like(key) => {
                let token = key.to_owned();
                Box::pin(portal::let_in(&self.app, &token, &mut request)).await
            }
            Ok(key) => {
                let authenticated = self.app.authenticator.authenticate(key, at).await;
                authenticated.map_err(ApiError::from)
            }
            Err(error) => Err(error),
        };
        self.admit(key, at, request).await
    }

    /// Lets a request through, or refuses it. `at` is a moment before its key was checked.
    fn admit(
        &mut self,
        key: Result<Arc<VerifiedKey>, ApiError>,
        at: Moment,
        mut request: Request,
    ) -> Admitting<S::Future, S::Error> {
        let key = match key {
            Ok(key) => key,
            Err(error) => return Admitting::refused(None, error),
        };
        let app = &self.app;
        let decision = check_limits(app, &key.grant, 1);
        let source = Source::take(request.extensions_mut());
        let caller = Caller {
            discard: Discard {
                bytes: MAX_DISCARDED_BYTES,
                within: app.bodies.timeout,
            },
            admitted: Admitted::new(key, app.clone(), at, source, decision),
        };
        if let Err(error) = within_limit(&decision) {
            return Admitting::refused(Some(caller), error);
        }
        request.extensions_mut().insert(caller.admitted.clone());
        Admitting {
            caller: Some(caller),
            answer: Either::Left(self.inner.call(request)),
        }
    }
}

/// Who sends a request with a valid key.
#[derive(Debug)]
struct Caller {
    admitted: Admitted,
    /// How much may be read of its body when it is refused.
    discard: Discard,
}

impl Caller {
    fn write_to(&self, response: &mut Response) {
        if !response.status().is_success() {
            response.extensions_mut().insert(self.discard);
            // For the line in the log.
            response.extensions_mut().insert(self.admitted.clone());
        }
        rate_headers::write(&self.admitted.decision(), response.headers_mut());
    }
}

pin_project! {
    /// Waits for the answer, and writes on it what is left of the rate limit.
    #[derive(Debug)]
    pub struct Admitting<F, E> {
        caller: Option<Caller>,
        #[pin]
        answer: Either<F, Ready<Result<Response, E>>>,
    }
}

impl<F, E> Admitting<F, E> {
    fn refused(caller: Option<Caller>, error: ApiError) -> Self {
        let answer = Either::Right(ready(Ok(error.into_response())));
        Self { caller, answer }
    }
}

impl<F, E> Future for Admitting<F, E>
where
    F: Future<Output = Result<Response, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut answer = task::ready!(this.answer.poll(context));
        if let (Some(caller), Ok(response)) = (this.caller, &mut answer) {
            caller.write_to(response);
        }
        Poll::Ready(answer)
    }
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
