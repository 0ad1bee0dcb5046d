//! The parts of one worker, and what starts deliveries.

use std::sync::Arc;
use std::time::Duration;

use shared::db::limited::LimitedPool;
use shared::db::{self, SESSION_SETTINGS};
use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::shutdown::Tasks;
use shared::process::telemetry::Readiness;
use shared::traces::Traces;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::Groups;
use crate::chores::{self, Chores, endpoint_hours};
use crate::claim::Claimer;
use crate::claim::floors::{FloorRequests, Floors};
use crate::config::Config;
use crate::endpoints::attempt_counts::AttemptCounts;
use crate::endpoints::directory::Directory;
use crate::endpoints::permits::Permits;
use crate::intake::Intake;
use crate::intake::consume::room::BatchRoom;
use crate::intake::consume::turns::Turns;
use crate::intake::plan::Planner;
use crate::intake::write::Writer;
use crate::record::{self, Recorder};
use crate::send::Dispatcher;
use crate::send::attempt::Sender;
use crate::send::client::Client;
use crate::send::lookups::Lookups;
use crate::send::room::Room;
use crate::store::partitions;
use crate::store::usage::late::CountedThrough;
use crate::store::warm::WarmPool;

/// How often the worker looks whether it can work.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long a statement may wait for what somebody else has locked, before it is tried again later: a lock that is held
/// longer is held by a person or by a process that stands still.
const LOCK_TIMEOUT: &[(&str, &str)] = &[("lock_timeout", "5s")];

/// The readiness condition that Postgres can be reached.
pub(crate) const DATABASE_READY: &str = "database";

/// What the tasks of a worker share.
pub(crate) struct Worker {
    nats: Nats,
    pub pool: PgPool,
    database: WarmPool,
    directory: Arc<Directory>,
    permits: Permits,
    dispatcher: Dispatcher,
    traces: Option<Traces>,
    counted: Arc<CountedThrough>,
    attempt_counts: Arc<AttemptCounts>,
    /// How many workers run.
    pub workers: Replicas,
}

impl Worker {
    /// Connects to Postgres when it is first used. The recorder runs from now on.
    pub(crate) fn new(
        config: &Config,
        nats: Nats,
        groups: &Groups,
        traces: Option<Traces>,
    ) -> anyhow::Result<Self> {
        let pool = db::pool(
            "delivery-worker",
            &config.database,
            config.database_connections,
            &[SESSION_SETTINGS, LOCK_TIMEOUT].concat(),
        )?;
        let database = WarmPool::new(LimitedPool::new(pool.clone(), config.statement_timeout));
        let directory = Directory::new(
            database.clone(),
            config.secrets.key()?,
            config.retry,
            config.intake.filter_steps,
        );
        let room = Room::of_process(config);
        let permits = Permits::new(room.in_flight);
        let (recorder, reports) = Recorder::channel();
        let attempt_counts = Arc::<AttemptCounts>::default();
        let recording = record::run(
            database.clone(),
            reports,
            config.breaker,
            permits.clone(),
            attempt_counts.clone(),
        );
        // The last attempts are counted when the last results are recorded.
        let recording = endpoint_hours::write_rest_after(recording, pool.clone(), attempt_counts.clone());
        groups.recording.spawn_long_lived("recorder", recording);
        let lookups = Lookups::of_system(room.lookups);
        let proxy = config.egress_proxy.as_ref();
        let client = Arc::new(Client::new(&config.egress, proxy, lookups, room.idle)?);
        let closing = client.clone().close_idle(groups.starting.stop().clone());
        groups.starting.spawn_long_lived("idle connections", closing);
        let sender = Sender::new(client, config.egress.clone());
        Ok(Self {
            nats,
            pool,
            database,
            directory: Arc::new(directory),
            permits,
            dispatcher: Dispatcher::new(sender, recorder, groups.deliveries.clone(), traces.clone()),
            traces,
            counted: Arc::default(),
            attempt_counts,
            workers: Replicas::default(),
        })
    }

    /// Starts, when the database is ready, what starts deliveries.
    pub(crate) async fn start(
        self,
        config: Config,
        tasks: Tasks,
        readiness: Readiness,
    ) -> anyhow::Result<()> {
        let stop = tasks.stop().clone();
        if partitions::prepare(&self.pool, &stop).await? {
            let (pool, permits) = (self.pool.clone(), self.permits.clone());
            let looks = look_regularly(pool, permits, readiness.clone(), stop.clone());
            tasks.spawn_long_lived("looks", looks);
            self.chores(&config).start(&tasks);
            let (counts, workers) = (self.attempt_counts.clone(), self.workers.clone());
            chores::start_own(&tasks, &self.pool, counts, workers);
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

    fn chores(&self, config: &Config) -> Chores {
        Chores {
            pool: self.pool.clone(),
            nats: self.nats.clone(),
            directory: self.directory.clone(),
            permits: self.permits.clone(),
            retention: config.retention,
            counted: self.counted.clone(),
            workers: self.workers.clone(),
        }
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
                traces: self.traces,
                counted: self.counted,
                attempt_counts: self.attempt_counts,
            },
            ack_wait: config.intake.intake_ack_wait,
            turns: Turns::new(self.workers),
            room: BatchRoom::default(),
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
        metrics::gauge!("penstock_deliveries_in_flight").set(in_use);
        let most = u32::try_from(permits.most()).unwrap_or(u32::MAX);
        metrics::gauge!("penstock_deliveries_in_flight_max").set(most);
        db::show_pool("worker", &pool);
        if let Some(is_ready) = stop.run_until_cancelled(db::answers(&pool)).await {
            readiness.set(DATABASE_READY, is_ready);
        }
    }
    Ok(())
}
