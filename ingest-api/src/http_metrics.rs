//! Rate, errors and duration of every route.

use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::middleware::Next;
use axum::response::Response;

/// Records each request under its route's pattern, never its path: ids would make a series each.
pub async fn record(request: Request, next: Next) -> Response {
    let started = Instant::now();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    let response = next.run(request).await;
    let route = route.as_ref().map_or("unknown", MatchedPath::as_str).to_owned();
    let labels = [
        ("route", route),
        ("method", known_method(&method).to_owned()),
        ("status", response.status().as_str().to_owned()),
    ];
    metrics::counter!("http_requests_total", &labels).increment(1);
    metrics::histogram!("http_request_duration_seconds", &labels).record(started.elapsed());
    response
}

/// A client can invent methods; they share one series.
fn known_method(method: &axum::http::Method) -> &str {
    match method.as_str() {
        name @ ("GET" | "POST" | "PUT" | "PATCH" | "DELETE" | "HEAD" | "OPTIONS") => name,
        _ => "other",
    }
}
