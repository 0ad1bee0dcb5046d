//! Rate, errors and duration of every route.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use metrics::{Counter, Histogram};

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
    /// Records a request under its route's pattern, never its path: ids would make a series each.
    pub(crate) fn record(&self, route: Option<&str>, method: &Method, status: StatusCode, took: Duration) {
        let (route, method) = (route.unwrap_or("unknown"), known_method(method));
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
