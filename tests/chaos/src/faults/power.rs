//! The machine of nats-server loses its power: what its file system had not written to the disk is gone.
//!
//! The streams lie on an ext4 in a file. `EXT4_IOC_SHUTDOWN` without a flush of the log stops the file system where
//! it is; mounted again it has what a disk would have had.

use std::time::Duration;

use e2e::{Answered, Flow, Manners, NatsOptions, NatsSync, World};

use crate::machine::{AMPLE, Disk, require_root};
use crate::report::Outcome;
use crate::stage::Stage;
use crate::trial::Trial;

/// With the configuration that is shipped: nothing is lost.
pub(crate) async fn loss(stage: &Stage) -> anyhow::Result<Outcome> {
    let disk = match disk().await {
        Ok(disk) => disk,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let mut trial = start(stage, &disk, NatsSync::Always).await;
    let mut answers = Vec::new();
    // First without a worker, so that all that was accepted lies in the stream; then with some.
    let cuts = stage.pick(3, 1);
    for _ in 0..cuts {
        let flow = trial.flow(stage).await;
        answers.extend(cut(&mut trial, flow, &disk).await?);
    }
    for _ in 0..2 {
        trial.stack_mut().add_worker().await?;
    }
    for _ in 0..cuts {
        let flow = trial.flow(stage).await;
        answers.extend(cut(&mut trial, flow, &disk).await?);
    }
    let mut report = trial.end(&answers).await;
    report.note(format!("{} power cuts", 2 * cuts));
    disk.unmount().await?;
    Ok(Outcome::Ran(report))
}

/// With NATS's default: something is lost, or the test proves nothing.
pub(crate) async fn control(stage: &Stage) -> anyhow::Result<Outcome> {
    let disk = match disk().await {
        Ok(disk) => disk,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let mut trial = start(stage, &disk, NatsSync::Lazy).await;
    let flow = trial.flow(stage).await;
    let answers = cut(&mut trial, flow, &disk).await?;
    trial.stack_mut().add_worker().await?;
    trial.settle().await;
    let mut report = trial.judge(&answers).await;
    let lost = report.verdict.lost.len();
    report.at_least("lost, as it must be,", lost, 1);
    trial.world.finish().await;
    disk.unmount().await?;
    Ok(Outcome::Ran(report))
}

async fn disk() -> Result<Disk, String> {
    require_root()?;
    Disk::mount(AMPLE).await.map_err(|error| format!("{error:#}"))
}

async fn start(stage: &Stage, disk: &Disk, sync: NatsSync) -> Trial {
    let nats = NatsOptions {
        store: Some(disk.folder().to_owned()),
        sync,
        ..NatsOptions::default()
    };
    let setup = stage.setup().replicas(2, 0).nats(nats);
    Trial::start(setup, Manners::default()).await
}

/// Cuts the power under load, and starts nats-server again from what was on the disk.
async fn cut(world: &mut World, flow: Flow, disk: &Disk) -> anyhow::Result<Vec<Answered>> {
    tokio::time::sleep(Duration::from_secs(4)).await;
    disk.cut_power().await?;
    let nats = world.stack_mut().nats_mut();
    nats.kill().await?;
    let answers = flow.stop().await;
    disk.remount().await?;
    world.stack_mut().nats_mut().start().await?;
    Ok(answers)
}
