//! The socket that operators use, on a thread of its own: it answers however busy the service is, so that a probe tells
//! a process that is busy from one that is dead.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::process::telemetry::log_levels;
use crate::process::telemetry::readings::Readings;
use crate::process::telemetry::{Readiness, metrics_route, ready_route};
use crate::server::rules::RulesLayer;
use crate::server::{self, HttpServerConfig, Limits};

/// How often the service's own runtime shows that it runs tasks.
const BEAT_INTERVAL: Duration = Duration::from_secs(1);

/// How long the runtime may run no task before it counts as dead. No load and no lack of processor time lasts that
/// long; a deadlock does.
const DEAD_AFTER: Duration = Duration::from_mins(2);

/// The parts of a service that operators see.
#[derive(Clone, Debug)]
pub struct Shown {
    /// Its metrics.
    pub metrics: PrometheusHandle,
    /// The gauges that it reads elsewhere.
    pub readings: Readings,
    /// Whether it can work.
    pub readiness: Readiness,
}

/// When the service's runtime last ran a task.
#[derive(Clone, Debug)]
struct Pulse(Arc<Mutex<Instant>>);

impl Pulse {
    fn beat(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn last(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `/metrics`, `/healthz` and `/readyz` on a thread of its own until `stop`, and then gives requests in progress
/// `drain` to finish. `/healthz` is 503 only when the runtime that this is called on runs nothing any more.
///
/// # Errors
/// When there is no thread for it, or when that thread dies.
pub async fn serve(
    listener: TcpListener,
    shown: Shown,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let listener = listener.into_std().context("cannot move the operations socket")?;
    let pulse = Pulse(Arc::new(Mutex::new(Instant::now())));
    let routes = routes(pulse.clone())
        .merge(ready_route(shown.readiness))
        .merge(metrics_route(shown.metrics, shown.readings))
        .merge(log_levels::route())
        .layer(RulesLayer);
    let (ending, mut ended) = oneshot::channel();
    let thread = std::thread::Builder::new().name("operations".to_owned());
    let run = move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            let limits = Limits::new(HttpServerConfig::for_operations());
            server::serve(listener, routes, limits, stop, drain).await
        })
    };
    thread
        .spawn(|| {
            // Nobody waits for it when the service has ended without it.
            let _ = ending.send(run());
        })
        .context("cannot start the thread of the operations server")?;
    let mut tick = tokio::time::interval(BEAT_INTERVAL);
    loop {
        tokio::select! {
            outcome = &mut ended => {
                return outcome.unwrap_or_else(|_| Err(anyhow!("the thread of the operations server died")));
            }
            _ = tick.tick() => pulse.beat(),
        }
    }
}

fn routes(pulse: Pulse) -> Router {
    Router::new().route("/healthz", get(healthy)).with_state(pulse)
}

async fn healthy(State(pulse): State<Pulse>) -> Response {
    if is_alive(pulse.last(), Instant::now()) {
        Json(json!({"status": "ok"})).into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, Json(json!({"status": "dead"}))).into_response()
    }
}

fn is_alive(last_beat: Instant, now: Instant) -> bool {
    now.saturating_duration_since(last_beat) < DEAD_AFTER
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::process::shutdown::Tasks;

    /// From a thread that waits for its answer, as the thread of a probe does.
    fn get(address: SocketAddr, path: &str) -> String {
        let mut socket = TcpStream::connect(address).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        socket.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        socket.read_to_string(&mut answer).unwrap();
        answer
    }

    #[tokio::test]
    async fn probes_are_answered_while_the_services_only_thread_is_busy() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let tasks = Tasks::new(CancellationToken::new());
        let shown = Shown {
            metrics: PrometheusBuilder::new().build_recorder().handle(),
            readings: Readings::default(),
            readiness: Readiness::waiting_for(["database"]),
        };
        let (stop, drain) = (tasks.stop().clone(), Duration::from_secs(5));
        tasks.spawn_long_lived("operations", serve(listener, shown, stop, drain));
        tokio::task::yield_now().await;
        // This runtime has one thread, and this blocks it.
        for (path, status) in [("/healthz", "200"), ("/readyz", "503"), ("/metrics", "200")] {
            let answer = get(address, path);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status}")),
                "{path}: {answer}"
            );
        }
        tasks.stop().cancel();
        tasks.finish(Duration::from_secs(30)).await.unwrap();
    }

    #[test]
    fn only_a_runtime_that_has_stood_still_for_minutes_is_dead() {
        let start = Instant::now();
        assert!(is_alive(start, start + Duration::from_mins(1)));
        assert!(!is_alive(start, start + Duration::from_mins(3)));
        assert!(
            is_alive(start + Duration::from_secs(1), start),
            "clocks of two threads"
        );
    }
}
