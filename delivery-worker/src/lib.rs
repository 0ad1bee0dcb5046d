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
mod commands;
mod metric_names;
mod slices;
pub mod crash;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use metrics_exporter_prometheus::PrometheusHandle;
use shared::db::SESSION_SETTINGS;
use shared::db::limited::LimitedPool;
use shared::process::nats::{NATS_CONNECTED, Nats};
use shared::process::readings::Readings;
use shared::process::shutdown::{Tasks, run_service};
use shared::process::telemetry::{self, Readiness, bind};
use shared::server::metrics_server::Shown;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::claim::Claimer;
use crate::claim::floors::{FloorRequests, Floors};
use crate::config::Command;
pub use crate::config::Config;
// For its benchmark.
use crate::endpoints::directory::Directory;
use crate::endpoints::permits::Permits;
use crate::intake::plan::Planner;
use crate::intake::write::Writer;
use crate::intake::{Intake, STREAMS_FOUND};
use crate::record::Recorder;
use crate::send::Dispatcher;
use crate::send::attempt::Sender;
use crate::send::client::Client;
use crate::send::lookups::Lookups;
use crate::send::room::Room;
pub use crate::send::sign;
use crate::store::warm::WarmPool;

/// How often the worker looks whether it can work.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a statement may wait for what somebody else has locked, before it is tried again later: a lock that is held
/// longer is held by a person or by a process that stands still.
const LOCK_TIMEOUT: &[(&str, &str)] = &[("lock_timeout", "5s")];

const DATABASE_READY: &str = "database";

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
            let pool = shared::db::connect("delivery-worker migrate", &config.database_url, 1).await?;
            shared::db::migrate(&pool).await
        }
        Command::Audit(options) => {
            let nats = Nats::connect(&config.nats, "delivery-worker audit").await?;
            let pool = shared::db::connect("delivery-worker audit", &config.database_url, 1).await?;
            commands::audit::run(&options, config.retention, &nats.jetstream(), &pool).await
        }
        Command::Requeue(options) => {
            let nats = Nats::connect(&config.nats, "delivery-worker requeue").await?;
            let pool = shared::db::connect("delivery-worker requeue", &config.database_url, 1).await?;
            commands::requeue::run(&options, &nats.jetstream(), &pool).await
        }
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
    let nats = Nats::connect(&config.nats, "delivery-worker").await?;
    let worker = Worker::new(&config, nats.clone(), &groups)?;
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
        nats.watch(shown.readiness.clone(), stop.clone()),
    );
    let looks = shared::db::backlog::pool("delivery-worker", &config.database_url)?;
    let backlog = shared::db::backlog::follow(looks, shown.readings.clone(), stop.clone());
    tasks.spawn_long_lived("backlog", backlog);
    tasks.spawn_long_lived(
        "start",
        worker.start(config, tasks.clone(), shown.readiness.clone()),
    );
    let server = shared::server::metrics_server::serve(operations, shown, stop.clone(), drain);
    tasks.spawn_long_lived("operations server", server);
    tracing::info!(metrics = %address, "delivery worker started");
    stop_in_order(stop, groups, drain).await
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

/// What the tasks of a worker share.
struct Worker {
    nats: Nats,
    pool: PgPool,
    database: WarmPool,
    directory: Arc<Directory>,
    permits: Permits,
    dispatcher: Dispatcher,
}

impl Worker {
    /// Connects to Postgres when it is first used. The recorder runs from now on.
    fn new(config: &Config, nats: Nats, groups: &Groups) -> anyhow::Result<Self> {
        let pool = shared::db::pool(
            "delivery-worker",
            &config.database_url,
            config.database_connections,
            &[SESSION_SETTINGS, LOCK_TIMEOUT].concat(),
        )?;
        let database = WarmPool::new(LimitedPool::new(pool.clone(), config.statement_timeout));
        let directory = Directory::new(
            database.clone(),
            config.secrets_key.clone().context("SECRETS_KEY is required")?,
            config.retry,
            config.intake.filter_steps,
        );
        let room = Room::of_process(config);
        let permits = Permits::new(room.in_flight);
        let (recorder, reports) = Recorder::channel();
        let recording = record::run(database.clone(), reports, config.breaker, permits.clone());
        groups.recording.spawn_long_lived("recorder", recording);
        let lookups = Lookups::of_system(room.lookups);
        let client = Arc::new(Client::new(&config.egress, lookups, room.idle)?);
        let closing = client.clone().close_idle(groups.starting.stop().clone());
        groups.starting.spawn_long_lived("idle connections", closing);
        let sender = Sender::new(client, config.egress.clone());
        Ok(Self {
            nats,
            pool,
            database,
            directory: Arc::new(directory),
            permits,
            dispatcher: Dispatcher::new(sender, recorder, groups.deliveries.clone()),
        })
    }

    /// Starts, when the database is ready, what starts deliveries.
    async fn start(self, config: Config, tasks: Tasks, readiness: Readiness) -> anyhow::Result<()> {
        let stop = tasks.stop().clone();
        if store::partitions::prepare(&self.pool, &stop).await? {
            let (pool, permits) = (self.pool.clone(), self.permits.clone());
            let looks = look_regularly(pool, permits, readiness.clone(), stop.clone());
            tasks.spawn_long_lived("looks", looks);
            chores::start(
                &tasks,
                &self.pool,
                self.nats.clone(),
                self.directory.clone(),
                self.permits.clone(),
                config.retention,
            );
            let floors = self.floors();
            tasks.spawn_long_lived(
                "claimer",
                self.claimer(&config, &floors.requests).run(stop.clone()),
            );
            tasks.spawn_long_lived("floors", floors.run(stop.clone()));
            let intake = self.intake(&config).run(tasks.clone(), readiness);
            tasks.spawn_long_lived("stream discovery", intake);
        }
        stop.cancelled().await;
        Ok(())
    }

    fn floors(&self) -> Floors {
        Floors {
            nats: self.nats.clone(),
            database: self.database.clone(),
            permits: self.permits.clone(),
            requests: FloorRequests::default(),
        }
    }

    fn claimer(&self, config: &Config, floors: &FloorRequests) -> Claimer {
        Claimer {
            database: self.database.clone(),
            directory: self.directory.clone(),
            permits: self.permits.clone(),
            dispatcher: self.dispatcher.clone(),
            floors: floors.clone(),
            interval: config.dispatch.claim_interval,
            lease_margin: config.dispatch.lease_margin,
        }
    }

    fn intake(self, config: &Config) -> Intake {
        let planner = Planner {
            permits: self.permits,
            lease_margin: config.dispatch.lease_margin,
        };
        Intake {
            nats: self.nats,
            writer: Writer {
                database: self.database,
                directory: self.directory,
                planner,
                dispatcher: self.dispatcher,
            },
            ack_wait: config.intake.intake_ack_wait,
        }
    }
}

/// Keeps the readiness in step with the database, and the gauges with the permits, until the stop.
async fn look_regularly(
    pool: PgPool,
    permits: Permits,
    readiness: Readiness,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(LOOK_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        let in_use = u32::try_from(permits.in_use()).unwrap_or(u32::MAX);
        metrics::gauge!("deliveries_in_flight").set(in_use);
        // The pool asks Postgres whether the connection works.
        if let Some(connection) = stop.run_until_cancelled(pool.acquire()).await {
            readiness.set(DATABASE_READY, connection.is_ok());
        }
    }
    Ok(())
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
