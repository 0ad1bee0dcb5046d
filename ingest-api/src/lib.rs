//! The ingest API: takes events in over HTTP and answers 202 once NATS JetStream has them on disk.
//!
//! It is stateless: what it holds in memory (verified keys, rate-limit state) can be lost at any time, and any
//! number of replicas run behind any load balancer. The modules stand in the order in which a request meets
//! them.

pub mod config;
pub mod router;
mod openapi;
mod http_metrics;
mod metric_names;
mod admission;
mod api_key;
mod auth;
mod rate_limit;
mod json;
mod validate;
mod cloudevents;
mod accept;
mod publish;
mod extract;
mod cursor;
mod routes;
mod store;
mod error;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;
use shared::http_server::{self, HttpServerConfig};
use shared::nats::Nats;
use shared::shutdown::{Tasks, run_service};
use shared::telemetry::{self, Readiness, bind};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use crate::config::Config;
use crate::publish::{Publisher, STREAMS_READY};
use crate::router::App;

/// How often a replica looks whether the NATS connection is up, for its readiness.
const CONNECTION_CHECK: Duration = Duration::from_millis(200);

const NATS_CONNECTED: &str = "NATS connection";

/// The sockets a replica serves, already bound.
#[derive(Debug)]
pub struct Listeners {
    /// The API that producers call.
    pub api: TcpListener,
    /// Metrics and health.
    pub operations: TcpListener,
}

/// Runs one replica as this process until SIGTERM or SIGINT.
pub fn start(config: Config) -> ExitCode {
    run_service(&config.telemetry.clone(), async |stop| {
        let metrics = telemetry::init_metrics()?;
        let listeners = Listeners {
            api: bind(config.listen_addr, "LISTEN_ADDR").await?,
            operations: bind(config.metrics_addr, "METRICS_ADDR").await?,
        };
        run(config, listeners, metrics, stop).await
    })
}

/// Runs one replica until `stop`, then drains: requests in progress get their answers.
///
/// # Errors
/// When a setting cannot be used, or when a long-lived task dies.
pub async fn run(
    config: Config,
    listeners: Listeners,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    metric_names::describe();
    let tasks = Tasks::new(stop.clone());
    let readiness = Readiness::waiting_for([NATS_CONNECTED, STREAMS_READY]);
    let nats = Nats::connect(&config.nats, "ingest-api").await?;
    let pool = shared::db::pool(&config.database_url, config.database_connections, &[])?;

    // The publisher outlives the servers: requests in progress at the stop still need its answers.
    let publishing = Tasks::new(CancellationToken::new());
    let publisher = Publisher::start(&config.publish, config.streams.event_streams, &nats, &publishing);
    let app = Arc::new(App::new(&config, pool, publisher));

    tasks.spawn_long_lived(
        "streams",
        publish::keep_streams(config.streams, nats.clone(), readiness.clone(), stop.clone()),
    );
    tasks.spawn_long_lived(
        "connection check",
        watch_connection(nats, readiness.clone(), stop.clone()),
    );
    tasks.spawn_long_lived("sweeper", router::sweep(app.clone(), stop.clone()));
    let drain = config.drain_timeout;
    let operations = telemetry::operations_routes(metrics, readiness.clone());
    tasks.spawn_long_lived(
        "operations server",
        http_server::serve(
            listeners.operations,
            operations,
            HttpServerConfig::default(),
            stop.clone(),
            drain,
        ),
    );
    let routes = router::routes(app, readiness);
    tasks.spawn_long_lived(
        "API server",
        http_server::serve(listeners.api, routes, config.http, stop, drain),
    );
    tracing::info!(address = %config.listen_addr, "ingest API started");

    let outcome = tasks.finish(drain).await;
    publishing.stop().cancel();
    publishing
        .finish(config.publish.publish_timeout)
        .await
        .and(outcome)
}

/// Keeps the readiness in step with the connection.
async fn watch_connection(nats: Nats, readiness: Readiness, stop: CancellationToken) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(CONNECTION_CHECK);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        readiness.set(NATS_CONNECTED, nats.is_connected());
    }
    Ok(())
}
