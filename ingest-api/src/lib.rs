//! The ingest API: takes events in over HTTP and answers 202 once NATS JetStream has them on disk.
//!
//! It is stateless: what it holds in memory (verified keys, rate-limit state) can be lost at any time, and any
//! number of replicas run behind any load balancer. The modules stand from the inside out: words, store, keys,
//! limits, events, publishing, pulling, tailing; then HTTP, the routes and the console, which import them.

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
mod tailing;
pub mod http;
mod routes;
mod console;
mod app;
mod router;
mod tasks;
mod metric_names;

#[cfg(test)]
mod fuzz;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use shared::db::backlog;
use shared::process::nats::{NATS_CONNECTED, Nats};
use shared::process::replicas::Replicas;
use shared::process::shutdown::{Tasks, run_service};
use shared::process::telemetry::readings::Readings;
use shared::process::telemetry::{self, Readiness, bind};
use shared::process::worker_backlog::WorkerBacklog;
use shared::server::metrics_server::Shown;
use shared::template::Turns;
use shared::traces::sampler::Sampler;
use shared::traces::{self, Traces};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::app::App;
pub use crate::config::Config;
use crate::event::recent_ids::RecentIds;
use crate::http::answers::large_json::AnswerRoom;
use crate::http::request::body_limits::BodyLimits;
use crate::keys::changes::ended::EndedSessions;
use crate::keys::portal::PortalTokens;
use crate::keys::share::KEYS_SHARED;
use crate::keys::start::{follow_key_changes, start_keys};
use crate::publish::Publisher;
use crate::publish::streams::{Measured, STREAMS_READY};
use crate::pulling::Waiters;
use crate::store::Store;
use crate::tailing::Tails;
use crate::tasks::{
    Routes, follow_limits, start_operations, start_rate_limits, start_servers, start_streams, start_watchers,
};

/// The API's contract, as `/openapi.json` shows it.
pub fn openapi() -> serde_json::Value {
    router::document()
}

/// How long the last uses of keys may take to be written at the end.
const LAST_SAVE_PATIENCE: Duration = Duration::from_secs(2);

/// What this service is called by NATS, by Postgres and in traces.
const NAME: &str = "ingest-api";

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
    let worker_backlog = WorkerBacklog::new(readings.clone());
    let stop = CancellationToken::new();
    let tasks = Tasks::new(stop.clone());
    let readiness = Readiness::waiting_for([NATS_CONNECTED, STREAMS_READY, KEYS_SHARED]);
    let stopping = stop_after(signal, config.stop_delay, readiness.clone(), stop.clone());
    tasks.spawn_long_lived("stop", stopping);
    let nats = Nats::connect(&config.nats, NAME).await?;

    // These outlive the servers: requests in progress at the stop still need their publisher, and their keys may be revoked.
    let lasting = Tasks::new(CancellationToken::new());
    tasks.spawn_long_lived(
        "lasting tasks",
        until_one_dies(lasting.stop().clone(), stop.clone()),
    );
    let traces = Traces::start(&config.traces, NAME, Sampler::new(&config.sampling), &lasting)?;
    let replicas = Replicas::default();
    let publisher = Publisher::start(&config, &nats, &replicas, readiness.clone(), &lasting);
    let store = Store::new(&config.database, config.keys.key_lookups, &lasting)?;
    let looks = backlog::pool(NAME, &config.database.address)?;
    let pools = store.pools().into_iter().chain([looks.clone()]).collect();
    if let Some(following) = config.database.address.follow_password(pools, &stop) {
        tasks.spawn_long_lived("database password", following);
    }
    let keys = start_keys(&config, store.clone(), &nats, &readiness, &tasks)?;
    follow_key_changes(&keys, &store, &lasting);
    let (tenant_limits, quotas) = follow_limits(&store, &tasks);
    let rate_limiter = start_rate_limits(&config, &tenant_limits, &nats, replicas.clone(), &tasks);
    let secrets_key = config.secrets.key()?;
    let app = Arc::new(App {
        authenticator: keys.authenticator,
        key_changes: keys.changes,
        rate_limiter: rate_limiter.clone(),
        tenant_limits,
        quotas,
        publisher,
        streams: Measured::default(),
        store: store.clone(),
        waiters: Arc::new(Waiters::new(stop.clone())),
        tails: Arc::new(Tails::new(stop.clone())),
        recent_ids: RecentIds::default(),
        allow_signup: config.allow_signup,
        admin_tokens: config.admin_tokens(),
        portal_tokens: PortalTokens::new(&secrets_key),
        portal_routes: router::portal_routes(),
        secrets_key,
        ended_sessions: EndedSessions::new(store.clone()),
        public_url: config.public_url.clone(),
        egress: config.egress.clone(),
        bodies: BodyLimits::new(config.body_timeout, config.body_buffer_bytes),
        answers: AnswerRoom::new(),
        renders: Turns::new(),
        cors_origins: config.cors_origins.clone(),
        traces,
        carries_baggage: config.sampling.otel_propagators.baggage,
    });

    let measuring = publish::streams::Shown {
        readings: readings.clone(),
        backlog: worker_backlog.clone(),
        measured: app.streams.clone(),
        replicas: replicas.clone(),
    };
    start_streams(&config, &nats, &readiness, measuring, &tasks);
    tasks.spawn_long_lived(
        "backlog",
        backlog::follow(looks, readings.clone(), worker_backlog, replicas, stop.clone()),
    );
    start_watchers(&app, &tasks);
    tasks.spawn_long_lived("connection check", nats.watch(readiness.clone(), stop.clone()));
    let sweep = router::sweep(keys.cache.clone(), rate_limiter, app.tenant_limits.clone(), stop);
    tasks.spawn_long_lived("sweeper", sweep);
    let shown = Shown {
        metrics,
        readings,
        readiness: readiness.clone(),
    };
    start_operations(&config, listeners.operations, shown, &tasks);
    let routes = Routes {
        admin: listeners
            .admin
            .is_some()
            .then(|| router::admin_alone(app.clone(), readiness.clone())),
        api: router::routes(app.clone(), readiness, listeners.admin.is_none()),
        app,
    };
    start_servers(&config, listeners.api, listeners.admin, routes, &tasks);
    tracing::info!(address = %config.listen_addr, "ingest API started");

    let outcome = tasks.finish(config.drain_timeout).await;
    let _ = timeout(LAST_SAVE_PATIENCE, keys::uses::save(&keys.cache, &store)).await;
    lasting.stop().cancel();
    let patience = config.publish.publish_timeout.max(traces::ENDS_WITHIN);
    lasting.finish(patience).await.and(outcome)
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
