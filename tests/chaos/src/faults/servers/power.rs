//! The machine of nats-server loses its power: what its file system had not written to the disk is gone. Or its disk dies,
//! and the server lives on for a moment.
//!
//! The streams lie on an ext4 in a file. `EXT4_IOC_SHUTDOWN` without a flush of the log stops the file system where
//! it is; mounted again it has what a disk would have had.

use std::time::Duration;

use e2e::{Answered, Manners, NatsOptions, NatsSync, Signal, World};

use crate::machine::disk::{AMPLE, Disk};
use crate::machine::process::{signal, stop};
use crate::machine::require_root;
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::Trial;

/// Of eight cuts, how many come before there is a worker: all that was accepted then lies in the stream.
const EIGHTHS_WITHOUT_WORKERS: usize = 2;

/// The pauses before cuts, in seconds: most are short, some let much be stored. One cut in [`SOON`] follows the one before
/// within a second.
const PAUSES: (f64, f64) = (0.2, 8.0);
const SOON: u32 = 5;

/// The longest time that a server lives on without its disk.
const SURVIVAL: Duration = Duration::from_millis(300);

/// Servers of a cluster.
const NODES: usize = 3;

/// What happens to the machine.
#[derive(Clone, Copy, Debug)]
pub enum Loss {
    /// Everything stops at once: from the cut on, the server does nothing.
    Power,
    /// The server runs on for a random while, and every write and sync fails.
    Disk,
}

impl Loss {
    /// Cuts a process off its disk; then it is to be killed.
    pub(crate) async fn befall(self, process: u32, disk: &Disk) -> anyhow::Result<()> {
        match self {
            Self::Power => {
                // A sync that has begun is cut off in the middle, and the process never hears of its end.
                stop(process, "TD").await?;
                disk.cut_power().await
            }
            Self::Disk => {
                stop(process, "T").await?;
                disk.cut_power().await?;
                signal(process, Signal::SIGCONT)?;
                tokio::time::sleep(SURVIVAL.mul_f64(rand::random_range(0.0..1.0))).await;
                Ok(())
            }
        }
    }
}

/// With the configuration that is shipped: nothing is lost.
pub(crate) async fn loss(stage: &Stage, loss: Loss) -> Tried {
    run(stage, loss, NatsOptions::default()).await
}

/// One server of a cluster of three, with every stream on all of them.
pub(crate) async fn node_loss(stage: &Stage) -> Tried {
    let nats = NatsOptions {
        nodes: NODES,
        ..NatsOptions::default()
    };
    run(stage, Loss::Power, nats).await
}

async fn run(stage: &Stage, loss: Loss, nats: NatsOptions) -> Tried {
    let server = if nats.nodes == 1 { "nats" } else { "nats-0" };
    let disk = match disk(server).await {
        Ok(disk) => disk,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let mut trial = start(stage, &disk, nats).await;
    let cuts = stage.cuts.unwrap_or(stage.pick(16, 4));
    let alone = cuts * EIGHTHS_WITHOUT_WORKERS / 8;
    let flow = trial.flow(stage).await;
    for number in 0..cuts {
        if number == alone {
            for _ in 0..2 {
                let added = trial.stack_mut().add_worker().await;
                added.expect("a worker starts");
            }
        }
        pause().await;
        cut(&mut trial, loss, &disk).await;
    }
    flow.is_accepted_by(trial.replicas()).await;
    let answers = flow.stop().await;
    let mut report = trial.end(&answers).await;
    report.note(format!("{cuts} cuts"));
    disk.unmount().await?;
    Ok(Outcome::Ran(report))
}

/// With NATS's default: something is lost, or the test proves nothing.
pub(crate) async fn control(stage: &Stage) -> Tried {
    let disk = match disk("nats").await {
        Ok(disk) => disk,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let nats = NatsOptions {
        sync: NatsSync::Lazy,
        ..NatsOptions::default()
    };
    let mut trial = start(stage, &disk, nats).await;
    let flow = trial.flow(stage).await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    cut(&mut trial, Loss::Power, &disk).await;
    let answers: Vec<Answered> = flow.stop().await;
    trial.stack_mut().add_worker().await?;
    trial.settle().await;
    let mut report = trial.judge(&answers).await;
    let lost = report.verdict.lost.len();
    report.at_least("lost, as it must be,", lost, 1);
    trial.world.finish().await;
    disk.unmount().await?;
    Ok(Outcome::Ran(report))
}

async fn disk(server: &str) -> Result<Disk, String> {
    require_root()?;
    Disk::mount(server, AMPLE)
        .await
        .map_err(|error| format!("{error:#}"))
}

async fn start(stage: &Stage, disk: &Disk, nats: NatsOptions) -> Trial {
    let replicas = nats.nodes.to_string();
    let nats = NatsOptions {
        store: Some(disk.store().to_owned()),
        ..nats
    };
    let setup = stage
        .setup()
        .replicas(2, 0)
        .nats(nats)
        .ingest_env("EVENT_STREAM_REPLICAS", &replicas);
    Trial::start(setup, Manners::default()).await
}

async fn pause() {
    let (shortest, longest) = PAUSES;
    let span = if rand::random_ratio(1, SOON) {
        1.0 - shortest
    } else {
        longest - shortest
    };
    let part = rand::random_range(0.0..1.0_f64).powi(2);
    tokio::time::sleep(Duration::from_secs_f64(shortest + span * part)).await;
}

/// Cuts the power under load, and starts nats-server again from what was on the disk.
async fn cut(world: &mut World, loss: Loss, disk: &Disk) {
    let nats = world.stack_mut().nats_node_mut(0);
    let pid = nats.pid().expect("nats-server runs");
    loss.befall(pid, disk).await.expect("the power can be cut");
    nats.kill().await.expect("nats-server can be killed");
    disk.remount().await.expect("the disk can be mounted again");
    nats.start().await.expect("nats-server starts again");
}
