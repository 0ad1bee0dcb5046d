//! What every answer passes last: it is counted and timed, a refusal is logged, and it gets its request's id and the headers
//! that all have. One layer for all of this: each moves every answer once more.

pub(crate) mod cors;
pub(crate) mod default_headers;
pub(crate) mod etag;
pub(crate) mod gzip;
pub(crate) mod large_json;
pub(crate) mod live;
pub(crate) mod panics;
pub mod rate_headers;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri};
use pin_project_lite::pin_project;
use shared::server::Arrival;
use tokio::time::Instant;
use tower::{Layer, Service};

use crate::http::metrics::HttpMetrics;
use crate::http::request_ids::{Ids, X_REQUEST_ID, log_client_gone, log_refusal};

/// What all requests share.
#[derive(Debug, Default)]
struct Kept {
    ids: Ids,
    metrics: HttpMetrics,
}

/// The layer of all routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnswerLayer(Arc<Kept>);

impl<S> Layer<S> for AnswerLayer {
    type Service = Answers<S>;

    fn layer(&self, inner: S) -> Answers<S> {
        Answers {
            inner,
            kept: self.0.clone(),
        }
    }
}

/// The service of [`AnswerLayer`]. Written by hand, because `from_fn` costs each request two boxes.
#[derive(Clone, Debug)]
pub(crate) struct Answers<S> {
    inner: S,
    kept: Arc<Kept>,
}

impl<S, B> Service<Request> for Answers<S>
where
    S: Service<Request, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Answering<S::Future> {
        let arrival = request.extensions().get::<Arrival>();
        Answering {
            started: arrival.map_or_else(Instant::now, |arrival| arrival.at),
            id: Some(self.kept.ids.of(request.headers())),
            method: request.method().clone(),
            uri: request.uri().clone(),
            route: request.extensions().get().cloned(),
            kept: self.kept.clone(),
            answer: self.inner.call(request),
        }
    }
}

pin_project! {
    /// Waits for the answer.
    #[derive(Debug)]
    pub struct Answering<F> {
        started: Instant,
        // Some until there is an answer, into which it is moved: a copy costs an allocation.
        id: Option<HeaderValue>,
        method: Method,
        uri: Uri,
        route: Option<MatchedPath>,
        kept: Arc<Kept>,
        #[pin]
        answer: F,
    }

    impl<F> PinnedDrop for Answering<F> {
        fn drop(this: Pin<&mut Self>) {
            let this = this.project();
            if let Some(id) = this.id.take() {
                let route = this.route.as_ref().map(MatchedPath::as_str);
                let status = client_gone();
                this.kept.metrics.record(route, this.method, status, this.started.elapsed());
                log_client_gone(&id, this.method, route, this.uri.path());
            }
        }
    }
}

/// What a request counts as whose client has gone before there was an answer: nginx's status for it, which is never sent.
fn client_gone() -> StatusCode {
    StatusCode::from_u16(499).expect("it has three digits")
}

impl<F, B, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut answer = ready!(this.answer.poll(context));
        if let (Ok(response), Some(id)) = (&mut answer, this.id.take()) {
            let status = response.status();
            let route = this.route.as_ref().map(MatchedPath::as_str);
            let metrics = &this.kept.metrics;
            metrics.record(route, this.method, status, this.started.elapsed());
            if status.is_client_error() || status.is_server_error() {
                log_refusal(&id, this.method, route, this.uri.path(), response);
            }
            let headers = response.headers_mut();
            default_headers::add(headers);
            headers.insert(X_REQUEST_ID, id);
        }
        Poll::Ready(answer)
    }
}
