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
use shared::process::nats::{NATS_CONNECTED, Nats};
use shared::process::readings::Readings;
use shared::process::shutdown::{Tasks, run_service};
use shared::process::telemetry::{self, Readiness, bind};
use shared::server::metrics_server::Shown;
use sqlx::PgPool;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::chores::retention::RetentionConfig;
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

/// How long a round of a chore may take. What it has done by then stays done, but for the last statement.
const CHORE_LIMIT: Duration = Duration::from_mins(2);

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
    let readings = Readings::default();
    let readiness = Readiness::waiting_for([DATABASE_READY, NATS_CONNECTED, STREAMS_FOUND]);
    let nats = Nats::connect(&config.nats, "delivery-worker").await?;
    let pool = shared::db::pool(
        "delivery-worker",
        &config.database_url,
        config.database_connections,
        &[SESSION_SETTINGS, LOCK_TIMEOUT].concat(),
    )?;
    let database = WarmPool::new(pool.clone(), config.statement_timeout);
    let directory = Arc::new(Directory::new(
        database.clone(),
        config.secrets_key.clone().context("SECRETS_KEY is required")?,
        config.retry,
        config.intake.filter_steps,
    ));
    let room = Room::of_process(&config);
    let permits = Permits::new(room.in_flight);
    let drain = config.drain_timeout;

    // Three groups that end one after the other: what starts deliveries, the deliveries, which end by themselves,
    // and the recorder, which ends with the last one that could report to it.
    let tasks = Tasks::new(stop.clone());
    let deliveries = Tasks::new(stop.clone());
    let recording = Tasks::new(stop.clone());

    let (recorder, reports) = Recorder::channel();
    let recording_task = record::run(database.clone(), reports, config.breaker, permits.clone());
    recording.spawn_long_lived("recorder", recording_task);
    let lookups = Lookups::of_system(room.lookups);
    let client = Arc::new(Client::new(&config.egress, lookups, room.idle)?);
    tasks.spawn_long_lived("idle connections", client.clone().close_idle(stop.clone()));
    let sender = Sender::new(client, config.egress.clone());
    let dispatcher = Dispatcher::new(sender, recorder, deliveries.clone());
    let floors = Floors {
        nats: nats.clone(),
        database: database.clone(),
        permits: permits.clone(),
        requests: FloorRequests::default(),
    };
    let claimer = Claimer {
        database: database.clone(),
        directory: directory.clone(),
        permits: permits.clone(),
        dispatcher: dispatcher.clone(),
        floors: floors.requests.clone(),
        interval: config.dispatch.claim_interval,
        lease_margin: config.dispatch.lease_margin,
    };
    let writer = Writer {
        database,
        directory: directory.clone(),
        planner: Planner {
            permits: permits.clone(),
            lease_margin: config.dispatch.lease_margin,
        },
        dispatcher,
    };
    let intake = Intake {
        nats: nats.clone(),
        writer,
        ack_wait: config.intake.intake_ack_wait,
    };
    tasks.spawn_long_lived("metrics", telemetry::keep_metrics(metrics.clone(), stop.clone()));
    tasks.spawn_long_lived(
        "connection check",
        nats.clone().watch(readiness.clone(), stop.clone()),
    );
    let looks = shared::db::backlog::pool("delivery-worker", &config.database_url)?;
    let backlog = shared::db::backlog::follow(looks, readings.clone(), stop.clone());
    tasks.spawn_long_lived("backlog", backlog);
    let shown = Shown {
        metrics,
        readings,
        readiness: readiness.clone(),
    };
    let server = shared::server::metrics_server::serve(operations, shown, stop.clone(), drain);
    tasks.spawn_long_lived("operations server", server);
    tasks.spawn_long_lived("start", {
        let (tasks, stop) = (tasks.clone(), stop.clone());
        async move {
            if store::partitions::prepare(&pool, &stop).await? {
                let looks = look_regularly(pool.clone(), permits.clone(), readiness.clone(), stop.clone());
                tasks.spawn_long_lived("looks", looks);
                start_chores(&tasks, &pool, directory, permits, config.retention);
                tasks.spawn_long_lived("floors", floors.run(stop.clone()));
                tasks.spawn_long_lived("claimer", claimer.run(stop.clone()));
                tasks.spawn_long_lived("stream discovery", intake.run(tasks.clone(), readiness));
            }
            stop.cancelled().await;
            Ok(())
        }
    });
    tracing::info!(metrics = %config.metrics_addr, "delivery worker started");
    stop_in_order(stop, [tasks, deliveries, recording], drain).await
}

/// Starts what any worker does now and then.
fn start_chores(
    tasks: &Tasks,
    pool: &PgPool,
    directory: Arc<Directory>,
    permits: Permits,
    retention: RetentionConfig,
) {
    let stop = tasks.stop();
    let (db, wake) = (pool.clone(), permits.clone());
    let store = async move || chores::notices::store(&db, &directory, &wake).await;
    let events = chores::repeat(
        "operational events",
        chores::notices::INTERVAL,
        CHORE_LIMIT,
        stop.clone(),
        store,
    );
    tasks.spawn_long_lived("operational events", events);

    let db = pool.clone();
    let recover = async move || chores::recoveries::take_steps(&db, &permits).await;
    let steps = chores::repeat(
        "recoveries",
        chores::recoveries::INTERVAL,
        CHORE_LIMIT,
        stop.clone(),
        recover,
    );
    tasks.spawn_long_lived("recoveries", steps);

    let db = pool.clone();
    let ending = chores::deleted_endpoints::Ending::default();
    let end = async move || ending.take_round(&db).await;
    let endings = chores::repeat(
        "deleted endpoints",
        chores::deleted_endpoints::INTERVAL,
        CHORE_LIMIT,
        stop.clone(),
        end,
    );
    tasks.spawn_long_lived("deleted endpoints", endings);

    let db = pool.clone();
    let end = async move || chores::unacknowledged::end_deliveries(&db).await;
    let endings = chores::repeat(
        "unacknowledged deliveries",
        chores::unacknowledged::INTERVAL,
        CHORE_LIMIT,
        stop.clone(),
        end,
    );
    tasks.spawn_long_lived("unacknowledged deliveries", endings);

    let db = pool.clone();
    let maintain = async move || chores::retention::maintain(&db, retention).await;
    let rounds = chores::repeat(
        "retention",
        chores::retention::INTERVAL,
        chores::retention::LIMIT,
        stop.clone(),
        maintain,
    );
    tasks.spawn_long_lived("retention", rounds);
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
async fn stop_in_order(stop: CancellationToken, groups: [Tasks; 3], drain: Duration) -> anyhow::Result<()> {
    stop.cancelled().await;
    let deadline = Instant::now() + drain;
    let mut outcome = Ok(());
    for group in groups {
        let ended = group
            .finish(deadline.saturating_duration_since(Instant::now()))
            .await;
        outcome = outcome.and(ended);
    }
    outcome
}
