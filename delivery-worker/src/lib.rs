//! The delivery worker: takes events out of the streams, writes them to Postgres and delivers them as signed
//! webhooks.
//!
//! Any number of workers share the streams' consumers and the tables; killing one loses nothing. The modules
//! stand in the order in which an event meets them.

// `println!` and `eprintln!` panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod config;
mod store;
mod endpoints;
mod intake;
mod claim;
mod send;
mod record;
mod chores;
mod worker;
mod commands;
mod metric_names;
mod slices;
pub mod crash;

use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::anyhow;
use metrics_exporter_prometheus::PrometheusHandle;
use shared::db::SESSION_SETTINGS;
use shared::process::nats::{NATS_CONNECTED, Nats};
use shared::process::shutdown::{Tasks, run_service};
use shared::process::telemetry::readings::Readings;
use shared::process::telemetry::{self, Readiness, bind};
use shared::process::worker_backlog::WorkerBacklog;
use shared::server::metrics_server::Shown;
use shared::traces::sampler::Sampler;
use shared::traces::{self, Traces};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Command;
pub use crate::config::Config;
use crate::intake::STREAMS_FOUND;
// For its benchmark.
pub use crate::send::signing::sign;
// For databases that tests copy.
pub use crate::store::partitions::make_around_now as make_partitions;
use crate::worker::{DATABASE_READY, Worker};

/// Runs one worker as this process until SIGTERM or SIGINT, or the command that the configuration names.
pub fn start(mut config: Config) -> ExitCode {
    run_service(&config.telemetry.clone(), config.runtime, async |stop| {
        if let Some(command) = config.command.take() {
            let outcome = stop.run_until_cancelled(run_command(command, &config)).await;
            return outcome.unwrap_or_else(|| Err(anyhow!("it was told to stop before it was done")));
        }
        // The HTTP client takes the process's TLS implementation. An error says that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let metrics = telemetry::init_metrics()?;
        let operations = bind(config.metrics_addr, "METRICS_ADDR").await?;
        run(config, operations, metrics, stop).await
    })
}

async fn run_command(command: Command, config: &Config) -> anyhow::Result<()> {
    match command {
        Command::Migrate => {
            let pool = shared::db::connect("delivery-worker migrate", &config.database, 1).await?;
            shared::db::migrate(&pool).await
        }
        Command::Audit(options) => {
            let nats = Nats::connect(&config.nats, "delivery-worker audit").await?;
            let pool = shared::db::connect("delivery-worker audit", &config.database, 1).await?;
            commands::audit::run(&options, config.retention, &nats.jetstream(), &pool).await
        }
        Command::Requeue(options) => {
            let nats = Nats::connect(&config.nats, "delivery-worker requeue").await?;
            let pool = shared::db::connect("delivery-worker requeue", &config.database, 1).await?;
            commands::requeue::run(&options, &nats.jetstream(), &pool).await
        }
        Command::Explain(options) => {
            let pool = shared::db::pool("delivery-worker explain", &config.database, 1, SESSION_SETTINGS)?;
            commands::explain::run(&options, &pool).await
        }
        Command::Reseal => {
            let key = config.secrets.key()?;
            let pool = shared::db::connect("delivery-worker reseal", &config.database, 1).await?;
            commands::reseal::run(&key, &pool).await
        }
        Command::SecretsKeys => commands::secrets_keys::run(&config.secrets.key()?).await,
    }
}

/// Runs one worker until `stop`, then lets deliveries in progress finish and records their results.
/// `operations` serves metrics and health.
///
/// # Errors
/// When a setting cannot be used, or when a long-lived task dies.
pub async fn run(
    config: Config,
    operations: TcpListener,
    metrics: PrometheusHandle,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    metric_names::describe();
    let (address, drain) = (config.metrics_addr, config.drain_timeout);
    let groups = Groups::new(&stop);
    let tasks = groups.starting.clone();
    let exporting = Tasks::new(CancellationToken::new());
    let traces = Traces::start(
        &config.traces,
        "delivery-worker",
        Sampler::of_others(),
        &exporting,
    )?;
    let nats = Nats::connect(&config.nats, "delivery-worker").await?;
    let worker = Worker::new(&config, nats.clone(), &groups, traces)?;
    let shown = Shown {
        metrics,
        readings: Readings::default(),
        readiness: Readiness::waiting_for([DATABASE_READY, NATS_CONNECTED, STREAMS_FOUND]),
    };
    tasks.spawn_long_lived(
        "metrics",
        telemetry::keep_metrics(shown.metrics.clone(), stop.clone()),
    );
    tasks.spawn_long_lived(
        "connection check",
        nats.clone().watch(shown.readiness.clone(), stop.clone()),
    );
    let looks = shared::db::backlog::pool("delivery-worker", &config.database)?;
    let pools = vec![worker.pool.clone(), looks.clone()];
    if let Some(following) = config.database.follow_password(pools, &stop) {
        tasks.spawn_long_lived("database password", following);
    }
    let backlog = WorkerBacklog::new(shown.readings.clone());
    let workers = worker.workers.clone();
    let table = shared::db::backlog::follow(
        looks,
        shown.readings.clone(),
        backlog.clone(),
        workers.clone(),
        stop.clone(),
    );
    tasks.spawn_long_lived("backlog", table);
    let streams = intake::consume::streams::follow(nats, backlog, workers, stop.clone());
    tasks.spawn_long_lived("backlog of the streams", streams);
    tasks.spawn_long_lived(
        "start",
        worker.start(config, tasks.clone(), shown.readiness.clone()),
    );
    let server = shared::server::metrics_server::serve(operations, shown, stop.clone(), drain);
    tasks.spawn_long_lived("operations server", server);
    tracing::info!(metrics = %address, "delivery worker started");
    let outcome = stop_in_order(stop, groups, drain).await;
    exporting.stop().cancel();
    exporting.finish(traces::ENDS_WITHIN).await.and(outcome)
}

/// Tasks that end one after the other.
struct Groups {
    /// What starts deliveries.
    starting: Tasks,
    /// The deliveries, which end by themselves.
    deliveries: Tasks,
    /// The recorder, which ends with the last delivery that could report to it.
    recording: Tasks,
}

impl Groups {
    fn new(stop: &CancellationToken) -> Self {
        let group = || Tasks::new(stop.clone());
        Self {
            starting: group(),
            deliveries: group(),
            recording: group(),
        }
    }
}

/// Waits for the stop, then for each group within what is left of `drain`.
async fn stop_in_order(stop: CancellationToken, groups: Groups, drain: Duration) -> anyhow::Result<()> {
    stop.cancelled().await;
    let deadline = Instant::now() + drain;
    let mut outcome = Ok(());
    for group in [groups.starting, groups.deliveries, groups.recording] {
        let ended = group
            .finish(deadline.saturating_duration_since(Instant::now()))
            .await;
        outcome = outcome.and(ended);
    }
    outcome
}
