//! Handlers that panic: their clients get an answer, and their connections stay.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use futures_util::FutureExt as _;
use futures_util::future::{CatchUnwind, Either, Map, Ready, ready};
use shared::process::panics::panic_text;
use tower::{Layer, Service};

use crate::http::error::ApiError;

/// Layer that answers 500 when what is below it panics. Written by hand, because tower-http's puts every answer's body into
/// two more boxes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CatchPanicLayer;

impl<S> Layer<S> for CatchPanicLayer {
    type Service = CatchPanic<S>;

    fn layer(&self, inner: S) -> CatchPanic<S> {
        CatchPanic(inner)
    }
}

/// The service of [`CatchPanicLayer`].
#[derive(Clone, Debug)]
pub(crate) struct CatchPanic<S>(S);

/// What the service below answered, or what it panicked with.
type Caught<E> = Result<Result<Response, E>, Box<dyn Any + Send>>;

type AnswerOf<E> = fn(Caught<E>) -> Result<Response, E>;

/// Waits for the answer, or for the panic.
type Answering<F, E> = Map<CatchUnwind<AssertUnwindSafe<F>>, AnswerOf<E>>;

impl<S> Service<Request> for CatchPanic<S>
where
    S: Service<Request, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Answering<S::Future, S::Error>, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let answer_or_500: AnswerOf<S::Error> =
            |caught| caught.unwrap_or_else(|panic| Ok(answer_panic(&*panic)));
        match catch_unwind(AssertUnwindSafe(|| self.0.call(request))) {
            Ok(answer) => Either::Left(AssertUnwindSafe(answer).catch_unwind().map(answer_or_500)),
            Err(panic) => Either::Right(ready(Ok(answer_panic(&*panic)))),
        }
    }
}

fn answer_panic(panic: &(dyn Any + Send)) -> Response {
    ApiError::Internal(anyhow::anyhow!("a handler panicked: {}", panic_text(panic))).into_response()
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use axum::http::StatusCode;
    use futures_util::future::lazy;
    use tower::{ServiceExt as _, service_fn};

    use super::*;

    async fn status_of<F>(handler: fn(Request) -> F) -> StatusCode
    where
        F: Future<Output = Result<Response, Infallible>>,
    {
        let service = CatchPanicLayer.layer(service_fn(handler));
        let Ok(answer) = service.oneshot(Request::default()).await;
        answer.status()
    }

    fn panics_at_once(_: Request) -> Ready<Result<Response, Infallible>> {
        panic!("before there is a future")
    }

    fn panics_later(_: Request) -> impl Future<Output = Result<Response, Infallible>> {
        lazy(|_| panic!("in its future"))
    }

    #[tokio::test]
    async fn a_panic_is_answered_500_whenever_it_comes() {
        assert_eq!(
            status_of(|_| ready(Ok(Response::default()))).await,
            StatusCode::OK
        );
        let error = StatusCode::INTERNAL_SERVER_ERROR;
        assert_eq!(status_of(panics_at_once).await, error);
        assert_eq!(status_of(panics_later).await, error);
    }
}
