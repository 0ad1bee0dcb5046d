//! Rate, errors and duration of every route.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request};
use axum::http::{Method, Response, StatusCode};
use metrics::{Counter, Histogram};
use pin_project_lite::pin_project;
use tower::{Layer, Service};

/// The series of one route, method and status.
#[derive(Debug)]
struct Series {
    method: &'static str,
    status: StatusCode,
    requests: Counter,
    duration: Histogram,
}

impl Series {
    fn new(route: &str, method: &'static str, status: StatusCode) -> Self {
        let labels = [
            ("route", route.to_owned()),
            ("method", method.to_owned()),
            ("status", status.as_str().to_owned()),
        ];
        Self {
            method,
            status,
            requests: metrics::counter!("penstock_http_requests_total", &labels),
            duration: metrics::histogram!("penstock_http_request_duration_seconds", &labels),
        }
    }

    fn record(&self, took: Duration) {
        self.requests.increment(1);
        self.duration.record(took);
    }
}

/// The series so far, by route. They are kept here because they are few, and because the recorder's look-up by labels
/// costs more than the rest of a request's bookkeeping.
#[derive(Debug, Default)]
pub(crate) struct HttpMetrics(RwLock<HashMap<String, Vec<Series>>>);

impl HttpMetrics {
    fn record(&self, route: &str, method: &'static str, status: StatusCode, took: Duration) {
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut of_route = known.get(route).into_iter().flatten();
        if let Some(series) = of_route.find(|series| series.method == method && series.status == status) {
            series.record(took);
            return;
        }
        drop(known);
        let series = Series::new(route, method, status);
        series.record(took);
        let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(route.to_owned()).or_default().push(series);
    }
}

/// Records each request under its route's pattern, never its path: ids would make a series each.
#[derive(Clone, Debug, Default)]
pub(crate) struct RecordLayer(Arc<HttpMetrics>);

impl<S> Layer<S> for RecordLayer {
    type Service = Record<S>;

    fn layer(&self, inner: S) -> Record<S> {
        Record {
            inner,
            metrics: self.0.clone(),
        }
    }
}

/// The service of [`RecordLayer`]. Written by hand, because `from_fn` costs each request two boxes.
#[derive(Clone, Debug)]
pub(crate) struct Record<S> {
    inner: S,
    metrics: Arc<HttpMetrics>,
}

impl<S, B> Service<Request> for Record<S>
where
    S: Service<Request, Response = Response<B>>,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = Recording<S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Recording<S::Future> {
        Recording {
            started: Instant::now(),
            route: request.extensions().get::<MatchedPath>().cloned(),
            method: known_method(request.method()),
            metrics: self.metrics.clone(),
            answer: self.inner.call(request),
        }
    }
}

pin_project! {
    /// Waits for the answer and records it.
    #[derive(Debug)]
    pub struct Recording<F> {
        started: Instant,
        route: Option<MatchedPath>,
        method: &'static str,
        metrics: Arc<HttpMetrics>,
        #[pin]
        answer: F,
    }
}

impl<F, B, E> Future for Recording<F>
where
    F: Future<Output = Result<Response<B>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let answer = ready!(this.answer.poll(context));
        if let Ok(response) = &answer {
            let route = this.route.as_ref().map_or("unknown", MatchedPath::as_str);
            let took = this.started.elapsed();
            this.metrics.record(route, this.method, response.status(), took);
        }
        Poll::Ready(answer)
    }
}

/// Unknown methods share one series, because clients can invent any number.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
