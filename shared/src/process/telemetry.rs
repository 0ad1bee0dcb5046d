//! Logs, metrics and health: what operators see of a service.

pub mod line_limit;
pub mod log_levels;
pub mod log_writer;
pub mod readings;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::net::SocketAddr;
use std::panic::PanicHookInfo;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use clap::{Args, ValueEnum};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use self::log_writer::LogWriter;
use self::readings::Readings;
use crate::process::panics::panic_text;

/// Upper bounds, in seconds, of the buckets of every duration histogram. Requests, publishes and attempts all have a
/// time limit, and none is above a minute by default.
const DURATION_BUCKETS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.003, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
    120.0,
];

/// Upper bounds, in seconds, of the buckets of times that include a wait in a stream or a table: up to a week.
const WAIT_BUCKETS: &[f64] = &[
    0.001,
    0.002,
    0.003,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    300.0,
    900.0,
    3_600.0,
    4.0 * 3_600.0,
    12.0 * 3_600.0,
    DAY,
    2.0 * DAY,
    4.0 * DAY,
    7.0 * DAY,
];
const DAY: f64 = 24.0 * 3_600.0;

/// The histograms with [`WAIT_BUCKETS`].
const WAITS: &[&str] = &["penstock_event_to_delivery_seconds"];

/// Upper bounds of the buckets of every other histogram.
const COUNT_BUCKETS: &[f64] = &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1_000.0];

/// How often samples are summed up. At 50 000 requests a second that many take 0.8 MB.
const METRICS_INTERVAL: Duration = Duration::from_secs(1);

/// How a service logs.
#[derive(Args, Clone, Debug)]
pub struct TelemetryConfig {
    /// What is logged: a level, or levels by module (`info,delivery_worker=debug`).
    #[arg(long, env = "RUST_LOG", value_name = "RUST_LOG", default_value = "info,async_nats=warn,h2=error", value_parser = filter)]
    pub log: String,

    /// Form of the log lines: `text`, or `json`, one object a line.
    #[arg(long, env, value_name = "LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Form of the log lines on stderr.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn filter(text: &str) -> Result<String, tracing_subscriber::filter::ParseError> {
    log_levels::parse(text).map(|_| text.to_owned())
}

impl TelemetryConfig {
    /// Starts logging, to stderr, for the whole process, panics included. Lines are written a moment later, by a thread:
    /// the end of the process waits for them with [`LogWriter::flush`].
    ///
    /// # Errors
    /// When the operating system gives no thread.
    pub fn init_logging(&self) -> anyhow::Result<LogWriter> {
        let writer = LogWriter::start(std::io::stderr()).context("cannot start logging")?;
        let builder = tracing_subscriber::fmt()
            .with_env_filter(log_levels::parse(&self.log)?)
            // It would tell them to stderr, which waits and panics.
            .log_internal_errors(false)
            .with_writer(writer.clone());
        let done = match self.log_format {
            LogFormat::Text => {
                let builder = builder.with_ansi(false).with_filter_reloading();
                let handle = builder.reload_handle();
                log_levels::keep(self.log.clone(), move |filter| Ok(handle.reload(filter)?));
                builder.try_init()
            }
            LogFormat::Json => {
                let builder = builder.json().flatten_event(true).with_filter_reloading();
                let handle = builder.reload_handle();
                log_levels::keep(self.log.clone(), move |filter| Ok(handle.reload(filter)?));
                builder.try_init()
            }
        };
        if done.is_err() {
            tracing::debug!("logging had been started before");
        }
        std::panic::set_hook(Box::new(log_panic));
        Ok(writer)
    }
}

/// Logs a panic. The standard library's own hook waits for the reader of stderr.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let (thread, backtrace) = (std::thread::current(), Backtrace::capture());
    let is_captured = backtrace.status() == BacktraceStatus::Captured;
    tracing::error!(
        thread = thread.name(),
        location = panic.location().map(tracing::field::display),
        backtrace = is_captured.then(|| tracing::field::display(&backtrace)),
        "panicked: {}",
        panic_text(panic.payload())
    );
}

/// Starts the metrics recorder for the whole process. Until [`keep_metrics`] or a scrape sums them up, it holds every
/// single sample of every histogram.
///
/// # Errors
/// When the process already has one.
pub fn init_metrics() -> anyhow::Result<PrometheusHandle> {
    metrics_builder()
        .and_then(PrometheusBuilder::install_recorder)
        .context("cannot start the metrics recorder")
}

/// A full name takes precedence over the end of a name.
fn metrics_builder() -> Result<PrometheusBuilder, BuildError> {
    let builder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), DURATION_BUCKETS)?
        .set_buckets(COUNT_BUCKETS)?;
    WAITS.iter().try_fold(builder, |builder, name| {
        builder.set_buckets_for_metric(Matcher::Full((*name).to_owned()), WAIT_BUCKETS)
    })
}

/// Sums up the samples of histograms regularly, until the stop: otherwise they would fill the memory of a service that
/// nobody scrapes.
///
/// # Errors
/// Never; it returns a result because it runs as a long-lived task.
pub async fn keep_metrics(metrics: PrometheusHandle, stop: CancellationToken) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(METRICS_INTERVAL);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        metrics.run_upkeep();
    }
    Ok(())
}

/// Whether a service can do its work: every condition that was named must hold.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<Vec<(&'static str, bool)>>>);

impl Readiness {
    /// Not ready until each of these conditions was [`set`](Self::set).
    pub fn waiting_for(conditions: impl IntoIterator<Item = &'static str>) -> Self {
        Self(Arc::new(Mutex::new(
            conditions.into_iter().map(|name| (name, false)).collect(),
        )))
    }

    /// Says whether a condition holds. When the service is ready by that, or no more, it is logged.
    pub fn set(&self, condition: &'static str, holds: bool) {
        let mut conditions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_ready = missing_of(&conditions).is_empty();
        match conditions.iter_mut().find(|(name, _)| *name == condition) {
            Some((_, state)) => *state = holds,
            None => conditions.push((condition, holds)),
        }
        match (was_ready, missing_of(&conditions).as_slice()) {
            (false, []) => tracing::info!("the service is ready"),
            (true, missing @ [_, ..]) => {
                tracing::info!(
                    waiting_for = missing.join(", "),
                    "the service is not ready any more"
                );
            }
            _ => {}
        }
    }

    /// The conditions that do not hold.
    pub fn missing(&self) -> Vec<&'static str> {
        missing_of(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn missing_of(conditions: &[(&'static str, bool)]) -> Vec<&'static str> {
    let missing = conditions.iter().filter(|(_, holds)| !holds);
    missing.map(|(name, _)| *name).collect()
}

/// `/healthz` (the process runs) and `/readyz` (it can work; 503 with what is missing).
pub fn health_routes(readiness: Readiness) -> Router {
    ready_route(readiness).route("/healthz", get(|| async { Json(json!({"status": "ok"})) }))
}

/// `/readyz`, as in [`health_routes`].
pub fn ready_route(readiness: Readiness) -> Router {
    Router::new().route("/readyz", get(ready).with_state(readiness))
}

async fn ready(State(readiness): State<Readiness>) -> Response {
    let missing = readiness.missing();
    if missing.is_empty() {
        Json(json!({"status": "ready"})).into_response()
    } else {
        let body = Json(json!({"status": "not ready", "waiting_for": missing}));
        (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
    }
}

/// Postgres, as [`set_dependency`] names it.
pub const POSTGRES: &str = "postgres";

/// NATS, as [`set_dependency`] names it.
pub const NATS: &str = "nats";

/// Says whether this process reaches what it depends on.
pub fn set_dependency(dependency: &'static str, is_up: bool) {
    metrics::gauge!("penstock_dependency_up", "dependency" => dependency).set(u8::from(is_up));
}

/// `/metrics` for Prometheus, with those of the process itself.
pub fn metrics_route(metrics: PrometheusHandle, readings: Readings) -> Router {
    let process = metrics_process::Collector::new("penstock_");
    process.describe();
    metrics::gauge!("penstock_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    let render = async move || {
        process.collect();
        let text = readings.render(&metrics, Instant::now());
        ([("content-type", "text/plain; version=0.0.4")], text)
    };
    Router::new().route("/metrics", get(render))
}

/// Binds a listening socket.
///
/// # Errors
/// When the address cannot be bound; names `variable`.
pub async fn bind(address: SocketAddr, variable: &str) -> anyhow::Result<tokio::net::TcpListener> {
    let listener = tokio::net::TcpListener::bind(address).await;
    listener.with_context(|| format!("{variable}: cannot listen on {address}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_of_days_and_a_request_of_a_minute_fall_into_buckets_of_their_own() {
        let recorder = metrics_builder().unwrap().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            metrics::histogram!("penstock_event_to_delivery_seconds").record(3.0 * DAY);
            metrics::histogram!("penstock_http_request_duration_seconds").record(45.0);
        });
        let rendered = recorder.handle().render();
        for (series, count) in [
            ("penstock_event_to_delivery_seconds_bucket{le=\"172800\"}", 0),
            ("penstock_event_to_delivery_seconds_bucket{le=\"345600\"}", 1),
            ("penstock_event_to_delivery_seconds_bucket{le=\"604800\"}", 1),
            ("penstock_http_request_duration_seconds_bucket{le=\"30\"}", 0),
            ("penstock_http_request_duration_seconds_bucket{le=\"60\"}", 1),
        ] {
            assert!(rendered.contains(&format!("{series} {count}\n")), "{rendered}");
        }
    }
}
