//! Rate, errors and duration of every route.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use metrics::{Counter, Histogram};

/// What is counted of one route, method and status.
#[derive(Clone, Debug)]
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
            requests: metrics::counter!("http_requests_total", &labels),
            duration: metrics::histogram!("http_request_duration_seconds", &labels),
        }
    }
}

/// The series so far, by route. The recorder finds one by its labels, which costs more than the rest of a request's
/// bookkeeping together; there are few, so they are kept.
#[derive(Debug, Default)]
pub struct HttpMetrics(RwLock<HashMap<String, Vec<Series>>>);

impl HttpMetrics {
    fn series(&self, route: &str, method: &'static str, status: StatusCode) -> Series {
        let of_route = |known: &HashMap<String, Vec<Series>>| {
            let mut series = known.get(route)?.iter();
            series
                .find(|series| series.method == method && series.status == status)
                .cloned()
        };
        let known = of_route(&self.0.read().unwrap_or_else(PoisonError::into_inner));
        known.unwrap_or_else(|| {
            let series = Series::new(route, method, status);
            let mut all = self.0.write().unwrap_or_else(PoisonError::into_inner);
            all.entry(route.to_owned()).or_default().push(series.clone());
            series
        })
    }
}

/// Records each request under its route's pattern, never its path: ids would make a series each.
pub async fn record(State(metrics): State<Arc<HttpMetrics>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = known_method(request.method());
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str);
    let series = metrics.series(route, method, response.status());
    series.requests.increment(1);
    series.duration.record(started.elapsed());
    response
}

/// A client can invent methods; they share one series.
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
