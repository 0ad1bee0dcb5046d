//! Puts the credential of the console's session in the place of its cookie, so that the routes need not know of sessions.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::HeaderValue;
use axum::http::header::{AUTHORIZATION, SET_COOKIE};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::Either;
use shared::domain::clock::UnixMicros;
use tower::{Layer, Service};

use super::same_origin::{is_marked, is_same_origin};
use super::session::{Session, no_cookie};
use crate::app::App;
use crate::domain::access::session::SignedIn;
use crate::http::admission::callers::X_API_KEY;
use crate::http::error::ApiError;
use crate::keys::error::KeyError;

/// Layer of all routes. A request without the header of the console's page costs one look at its headers.
#[derive(Clone, Debug)]
pub(crate) struct SessionLayer(Arc<App>);

impl SessionLayer {
    /// A layer that reads this application's sessions.
    pub(crate) fn new(app: Arc<App>) -> Self {
        Self(app)
    }
}

impl<S> Layer<S> for SessionLayer {
    type Service = WithSessions<S>;

    fn layer(&self, inner: S) -> WithSessions<S> {
        WithSessions {
            inner,
            app: self.0.clone(),
        }
    }
}

/// The service of [`SessionLayer`].
#[derive(Clone, Debug)]
pub(crate) struct WithSessions<S> {
    inner: S,
    app: Arc<App>,
}

type Boxed<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

impl<S> Service<Request> for WithSessions<S>
where
    S: Service<Request, Response = Response> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Boxed<Response, S::Error>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let headers = request.headers();
        let has_key = headers.contains_key(AUTHORIZATION) || headers.contains_key(X_API_KEY);
        if has_key || !is_marked(headers) {
            return Either::Right(self.inner.call(request));
        }
        // `poll_ready` has reserved the service that is there, so this request gets it and a clone takes its place.
        let next = self.inner.clone();
        let inner = std::mem::replace(&mut self.inner, next);
        Either::Left(Box::pin(with_session(self.app.clone(), request, inner)))
    }
}

async fn with_session<S>(app: Arc<App>, mut request: Request, mut inner: S) -> Result<Response, S::Error>
where
    S: Service<Request, Response = Response>,
{
    if !is_same_origin(request.method(), request.uri(), request.headers()) {
        let error = ApiError::Forbidden("the console's sessions are for pages of this origin");
        return Ok(error.into_response());
    }
    let now = UnixMicros::now();
    let Some(session) = Session::open(request.headers(), &app.secrets_key, now) else {
        // The route answers as to anyone without a key; signing in is such a request.
        return inner.call(request).await;
    };
    match app.ended_sessions.check_console(session.id).await {
        Ok(()) => {}
        Err(KeyError::Invalid) => {
            let mut response = ApiError::Unauthorized("the session was ended: sign in again").into_response();
            set_cookie(&mut response, &no_cookie());
            return Ok(response);
        }
        Err(error) => return Ok(ApiError::from(error).into_response()),
    }
    let renewed = session
        .is_to_be_renewed(now)
        .then(|| session.seen(now).cookie(&app.secrets_key));
    let bearer = HeaderValue::try_from(format!("Bearer {}", session.credential()));
    let mut bearer = bearer.expect("what was taken as a credential is ASCII");
    bearer.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, bearer);
    request.extensions_mut().insert(SignedIn(session.id));
    request.extensions_mut().insert(Arc::new(session));
    let mut response = inner.call(request).await?;
    if let Some(cookie) = renewed.filter(|_| !response.headers().contains_key(SET_COOKIE)) {
        set_cookie(&mut response, &cookie);
    }
    Ok(response)
}

/// Adds a `Set-Cookie`.
pub(super) fn set_cookie(response: &mut Response, cookie: &str) {
    let value = HeaderValue::try_from(cookie).expect("a cookie is made of ASCII");
    response.headers_mut().insert(SET_COOKIE, value);
}
