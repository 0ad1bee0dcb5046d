//! The ingest API: takes events in over HTTP and answers 202 once NATS JetStream has them on disk.
//!
//! It is stateless: what it holds in memory (verified keys, rate-limit state) can be lost at any time, and any
//! number of replicas run behind any load balancer. The rooms stand from the inside out: words, store, keys, limits,
//! events, publishing, pulling; then HTTP and the routes, which import them.

// `println!` and `eprintln!` panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod config;
pub mod domain;
mod store;
pub mod keys;
pub mod limits;
pub mod event;
mod publish;
mod pulling;
pub mod http;
mod routes;
mod app;
mod router;
mod tenant_limits;
mod metric_names;

#[cfg(test)]
mod fuzz;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::db::backlog;
use shared::process::nats::{NATS_CONNECTED, Nats};
use shared::process::readings::Readings;
use shared::process::shutdown::{Tasks, run_service};
use shared::process::telemetry::{self, Readiness, bind};
use shared::server::metrics_server::Shown;
use shared::server::{self, HttpServerConfig};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
pub use crate::config::Config;
use crate::event::recent_ids::RecentIds;
use crate::http::body_limits::BodyLimits;
use crate::http::large_json::AnswerRoom;
use crate::keys::share::KEYS_SHARED;
use crate::keys::start::{follow_key_changes, start_keys};
use crate::limits::exchange::RateExchange;
use crate::limits::limiter::RateLimiter;
use crate::limits::tenants::TenantLimits;
use crate::publish::Publisher;
use crate::publish::streams::STREAMS_READY;
use crate::pulling::Waiters;
use crate::store::Store;

/// The API's contract, as `/openapi.json` shows it.
pub fn openapi() -> serde_json::Value {
    router::document()
}

/// How long the last uses of keys may take to be written at the end.
const LAST_SAVE_PATIENCE: Duration = Duration::from_secs(2);

/// The readiness condition that ends with the stop.
const NOT_STOPPING: &str = "not stopping";

/// The sockets a replica serves, already bound.
#[derive(Debug)]
pub struct Listeners {
    /// The API that producers call.
    pub api: TcpListener,
    /// The admin API, when it is not served with the other.
    pub admin: Option<TcpListener>,
    /// Metrics and health.
    pub operations: TcpListener,
}

/// Runs one replica as this process until SIGTERM or SIGINT.
pub fn start(config: Config) -> ExitCode {
    run_service(&config.telemetry.clone(), config.runtime, async |stop| {
        let metrics = telemetry::init_metrics()?;
        let listeners = Listeners {
            api: bind(config.listen_addr, "LISTEN_ADDR").await?,
            admin: match config.admin_listen_addr {
                Some(address) => Some(bind(address, "ADMIN_LISTEN_ADDR").await?),
                None => None,
            },
            operations: bind(config.metrics_addr, "METRICS_ADDR").await?,
        };
        run(config, listeners, metrics, stop).await
    })
}

/// Runs one replica until `signal`, goes on for the configured delay, then drains: requests in progress get their answers.
///
/// # Errors
/// When a setting cannot be used, or when a long-lived task dies.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    signal: CancellationToken,
) -> anyhow::Result<()> {
    metric_names::describe();
    let readings = Readings::default();
    let stop = CancellationToken::new();
    let tasks = Tasks::new(stop.clone());
    let readiness = Readiness::waiting_for([NATS_CONNECTED, STREAMS_READY, KEYS_SHARED]);
    let stopping = stop_after(signal, config.stop_delay, readiness.clone(), stop.clone());
    tasks.spawn_long_lived("stop", stopping);
    let nats = Nats::connect(&config.nats, "ingest-api").await?;

    // These outlive the servers: requests in progress at the stop still need their publisher, and their keys may be revoked.
    let lasting = Tasks::new(CancellationToken::new());
    tasks.spawn_long_lived(
        "lasting tasks",
        until_one_dies(lasting.stop().clone(), stop.clone()),
    );
    let publisher = Publisher::start(&config.publish, config.streams.event_streams, &nats, &lasting);
    let store = Store::new(&config.database, config.keys.key_lookups)?;
    let keys = start_keys(&config, store.clone(), &nats, &readiness, &tasks);
    follow_key_changes(&keys, &store, &lasting);
    let rate_limiter = start_rate_limits(&config, &nats, &tasks);
    let tenant_limits = Arc::new(TenantLimits::default());
    let following = tenant_limits::follow(store.clone(), tenant_limits.clone(), stop.clone());
    tasks.spawn_long_lived("limits of tenants", following);
    let app = Arc::new(App {
        authenticator: keys.authenticator,
        key_changes: keys.changes,
        rate_limiter: rate_limiter.clone(),
        tenant_limits,
        publisher,
        store: store.clone(),
        waiters: Arc::new(Waiters::new(stop.clone())),
        recent_ids: RecentIds::default(),
        allow_signup: config.allow_signup,
        admin_token: config.admin_token.clone(),
        secrets_key: config.secrets_key.clone(),
        egress: config.egress.clone(),
        bodies: BodyLimits::new(config.body_timeout, config.body_buffer_bytes),
        answers: AnswerRoom::new(),
        cors_origins: config.cors_origins.clone(),
    });

    tasks.spawn_long_lived(
        "streams",
        publish::streams::keep_streams(
            config.streams.clone(),
            nats.clone(),
            readiness.clone(),
            readings.clone(),
            stop.clone(),
        ),
    );
    tasks.spawn_long_lived(
        "backlog",
        backlog::follow(
            backlog::pool("ingest-api", &config.database.database_url)?,
            readings.clone(),
            stop.clone(),
        ),
    );
    tasks.spawn_long_lived("pull watcher", app.waiters.clone().watch(store.clone()));
    tasks.spawn_long_lived("connection check", nats.watch(readiness.clone(), stop.clone()));
    let sweep = router::sweep(keys.cache.clone(), rate_limiter, stop);
    tasks.spawn_long_lived("sweeper", sweep);
    tasks.spawn_long_lived(
        "metrics",
        telemetry::keep_metrics(metrics.clone(), tasks.stop().clone()),
    );
    let operations = shared::server::metrics_server::serve(
        listeners.operations,
        Shown {
            metrics,
            readings,
            readiness: readiness.clone(),
        },
        tasks.stop().clone(),
        config.drain_timeout,
    );
    tasks.spawn_long_lived("operations server", operations);
    let routes = Routes {
        admin: listeners
            .admin
            .is_some()
            .then(|| router::admin_alone(app.clone(), readiness.clone())),
        api: router::routes(app, readiness, listeners.admin.is_none()),
    };
    start_servers(&config, listeners.api, listeners.admin, routes, &tasks);
    tracing::info!(address = %config.listen_addr, "ingest API started");

    let outcome = tasks.finish(config.drain_timeout).await;
    let _ = timeout(LAST_SAVE_PATIENCE, keys::uses::save(&keys.cache, &store)).await;
    lasting.stop().cancel();
    lasting.finish(config.publish.publish_timeout).await.and(outcome)
}

/// What is served, by socket.
struct Routes {
    admin: Option<Router>,
    api: Router,
}

fn start_rate_limits(config: &Config, nats: &Nats, tasks: &Tasks) -> Arc<RateLimiter> {
    let limiter = Arc::new(RateLimiter::new());
    let interval = config.rate_limits.rate_limit_exchange;
    let exchange = RateExchange::new(limiter.clone(), nats.clone(), interval);
    tasks.spawn_long_lived("rate limits", exchange.run(tasks.stop().clone()));
    limiter
}

/// Starts the servers that were given a socket.
fn start_servers(
    config: &Config,
    api: TcpListener,
    admin: Option<TcpListener>,
    routes: Routes,
    tasks: &Tasks,
) {
    let serve = |name, listener, routes, http| {
        let stop = tasks.stop().clone();
        let server = server::serve(listener, routes, http, stop, config.drain_timeout);
        tasks.spawn_long_lived(name, server);
    };
    if let Some((listener, routes)) = admin.zip(routes.admin) {
        serve(
            "admin server",
            listener,
            routes,
            HttpServerConfig::for_operations(),
        );
    }
    serve("API server", api, routes.api, config.http.clone());
}

/// Passes the stop signal on after `delay`, and tells load balancers at once.
async fn stop_after(
    signal: CancellationToken,
    delay: Duration,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    if stop.run_until_cancelled(signal.cancelled()).await.is_some() {
        readiness.set(NOT_STOPPING, false);
        let _ = stop.run_until_cancelled(tokio::time::sleep(delay)).await;
        stop.cancel();
    }
    Ok(())
}

/// Fails when the lasting tasks, one of which died, end before the stop.
async fn until_one_dies(lasting: CancellationToken, stop: CancellationToken) -> anyhow::Result<()> {
    match stop.run_until_cancelled(lasting.cancelled()).await {
        Some(()) => anyhow::bail!("a task that is to outlive the others died"),
        None => Ok(()),
    }
}
