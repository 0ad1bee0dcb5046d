//! The list of faults.

use std::panic::AssertUnwindSafe;

use clap::ValueEnum;
use futures_util::FutureExt as _;

use crate::faults::servers::power::Loss;
use crate::faults::servers::{cluster, nats, postgres, power, restore, stream};
use crate::faults::{clock, crash, filters, keys, logs, network, receivers, releases, services, slow, soak};
use crate::report::{Outcome, Report, Tried};
use crate::stage::Stage;

/// What is done to a Penstock under load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// nats-server is killed again and again.
    NatsKill,
    /// nats-server hangs.
    NatsFreeze,
    /// nats-server's disk is full.
    NatsFullDisk,
    /// The machine of nats-server loses its power.
    PowerLoss,
    /// The disk of nats-server dies, and the server lives on for a moment.
    DiskDies,
    /// One machine of a cluster of three nats-servers loses its power.
    NodePowerLoss,
    /// A power loss with NATS's default interval of syncs, which loses events: the proof that the test can find it.
    PowerLossControl,
    /// ingest-api is killed again and again.
    IngestKill,
    /// delivery-worker is killed again and again.
    WorkerKill,
    /// Every process is asked to stop and is started again, one after the other.
    RollingRestart,
    /// Postgres crashes again and again.
    PostgresCrash,
    /// Postgres hangs.
    PostgresFreeze,
    /// Postgres's disk is full.
    PostgresFullDisk,
    /// Postgres's disk is lost, and its tables are restored from a base backup and archived WAL.
    Restore,
    /// The next attempts of every second ordering key of many endpoints are due in a day.
    WaitingKeys,
    /// The event stream is at its byte limit.
    StreamFull,
    /// The leader of a cluster's stream is killed again and again.
    LeaderKill,
    /// The leader of a cluster's stream hangs.
    LeaderFreeze,
    /// The leader of a cluster's stream is cut off from the network.
    LeaderCutOff,
    /// Connections between all parts are slow, cut, half closed, sliced and narrow.
    Network,
    /// The clocks of some processes are wrong by an hour.
    Clock,
    /// A worker dies at each of its effects.
    CrashPoints,
    /// A thousand connections send their requests byte by byte.
    Slowloris,
    /// Hostile filters, payloads and batches beside a healthy customer.
    FilterFlood,
    /// Receivers answer without end, over HTTP/1 and HTTP/2.
    FloodingReceiver,
    /// A receiver's connections hang, and new ones do not.
    HungConnection,
    /// Nobody reads the services' logs any more, or their reader stands still.
    LogPipe,
    /// The previous release works beside this one on one database.
    Releases,
    /// Nothing happens, for a long time.
    Soak,
}

impl Fault {
    /// The name on the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("no fault is hidden");
        value.get_name().to_owned()
    }

    /// All of them but the soak.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants()
            .iter()
            .copied()
            .filter(|fault| *fault != Self::Soak)
    }

    /// Why no other one may run beside its bounded form: what that measures or uses of the machine. `None` when it mostly
    /// waits, and its bounds are wide.
    pub fn wants_the_machine(self) -> Option<&'static str> {
        match self {
            Self::Slowloris => {
                Some("each of a thousand connections must be closed in time, and it compares times")
            }
            Self::FilterFlood => Some("it uses all processors, and each worker must tell its health in time"),
            Self::FloodingReceiver => {
                Some("it uses all processors, and measures what the workers use of them")
            }
            Self::HungConnection => Some("it measures how late a delivery comes"),
            Self::LogPipe => Some("it compares messages a second, and times"),
            Self::Soak => Some("it counts descriptors, and what is held up opens more of them"),
            Self::NatsKill
            | Self::NatsFreeze
            | Self::NatsFullDisk
            | Self::PowerLoss
            | Self::DiskDies
            | Self::NodePowerLoss
            | Self::PowerLossControl
            | Self::IngestKill
            | Self::WorkerKill
            | Self::RollingRestart
            | Self::PostgresCrash
            | Self::PostgresFreeze
            | Self::PostgresFullDisk
            | Self::Restore
            | Self::WaitingKeys
            | Self::StreamFull
            | Self::LeaderKill
            | Self::LeaderFreeze
            | Self::LeaderCutOff
            | Self::Network
            | Self::Clock
            | Self::CrashPoints
            | Self::Releases => None,
        }
    }

    /// Runs it. What fails on the way is a broken bound.
    pub async fn run(self, stage: &Stage) -> Outcome {
        let run = AssertUnwindSafe(Box::pin(self.try_run(stage))).catch_unwind();
        let failed = |reason: String| {
            let mut report = Report::new(std::time::Duration::ZERO, e2e::Verdict::default());
            report.broken.push(reason);
            Outcome::Ran(report)
        };
        match run.await {
            Ok(Ok(outcome)) => outcome,
            Err(panic) => failed(message(panic.as_ref())),
        }
    }

    async fn try_run(self, stage: &Stage) -> Tried {
        match self {
            Self::NatsKill => nats::kill(stage).await,
            Self::NatsFreeze => nats::freeze(stage).await,
            Self::NatsFullDisk => nats::full_disk(stage).await,
            Self::PowerLoss => power::loss(stage, Loss::Power).await,
            Self::DiskDies => power::loss(stage, Loss::Disk).await,
            Self::NodePowerLoss => power::node_loss(stage).await,
            Self::PowerLossControl => power::control(stage).await,
            Self::IngestKill => services::kill_ingest(stage).await,
            Self::WorkerKill => services::kill_workers(stage).await,
            Self::RollingRestart => services::restart_all(stage).await,
            Self::PostgresCrash => Box::pin(postgres::crash(stage)).await,
            Self::PostgresFreeze => postgres::freeze(stage).await,
            Self::PostgresFullDisk => postgres::full_disk(stage).await,
            Self::Restore => restore::run(stage).await,
            Self::WaitingKeys => keys::waiting(stage).await,
            Self::StreamFull => stream::full(stage).await,
            Self::LeaderKill => Box::pin(cluster::kill_leader(stage)).await,
            Self::LeaderFreeze => Box::pin(cluster::freeze_leader(stage)).await,
            Self::LeaderCutOff => Box::pin(cluster::cut_off_leader(stage)).await,
            Self::Network => network::run(stage).await,
            Self::Clock => clock::run(stage).await,
            Self::CrashPoints => crash::run(stage).await,
            Self::Slowloris => slow::run(stage).await,
            Self::FilterFlood => filters::flood(stage).await,
            Self::FloodingReceiver => receivers::flooding(stage).await,
            Self::HungConnection => receivers::hung(stage).await,
            Self::LogPipe => logs::run(stage).await,
            Self::Releases => releases::run(stage).await,
            Self::Soak => soak::run(stage).await,
        }
    }
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("it panicked").to_owned()
}
