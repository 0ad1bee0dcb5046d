//! Postgres, crashed, hanging and out of disk.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use e2e::{Answered, Manners, Shutdown, until_within};

use crate::faults::Moments;
use crate::machine::disk::{Disk, SCARCE};
use crate::machine::require_root;
use crate::report::{Outcome, Report, Tried};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial};

/// How much of the requests with a verified key must be accepted meanwhile, in per cent.
pub(super) const ACCEPTED: f64 = 99.0;

/// The same while Postgres only hangs: nobody can revoke the key.
const ACCEPTED_WHILE_FROZEN: f64 = 100.0;

/// Of a test, on whose machine nats-server may stand still for some seconds. Then nothing is stored, and without Postgres nobody
/// knows whether the key was revoked.
const ACCEPTED_IN_A_TEST: f64 = 75.0;

/// Events a second while Postgres hangs: as many as can be delivered soon after so long.
const RATE_WHILE_FROZEN: u32 = 20;

/// How soon after the fault everything must be delivered.
const DRAINED: Duration = Duration::from_secs(30);

/// How long one look may take whether Postgres answers.
const LOOK: Duration = Duration::from_secs(2);

/// `pg_ctl stop -m immediate` 10 times in 60 s, for two seconds each.
pub(crate) async fn crash(stage: &Stage) -> Tried {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let mut trial = trial.with_keys();
    let flow = trial.flow(stage).await;
    let mut moments = Moments::every(Duration::from_secs(6));
    for _ in 0..stage.pick(10, 2) {
        moments.next().await;
        let postgres = trial.stack_mut().postgres_mut();
        postgres.stop(Shutdown::Immediate).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        flow.is_accepted_by(trial.replicas()).await;
        trial.stack_mut().postgres_mut().start().await?;
    }
    end(stage, trial, flow.stop().await, ACCEPTED).await
}

/// SIGSTOP of all its processes for 10 minutes: ten times as long as keys are cached.
pub(crate) async fn freeze(stage: &Stage) -> Tried {
    let (seconds, ttl) = stage.pick((600, "1m"), (20, "2s"));
    let setup = stage.setup().ingest_env("KEY_CACHE_TTL", ttl);
    let trial = Trial::start(setup, Manners::default()).await;
    let flow = trial.flow_of(RATE_WHILE_FROZEN).await;
    trial.stack().postgres().freeze()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    flow.is_accepted_by(trial.replicas()).await;
    trial.stack().postgres().thaw()?;
    end(stage, trial, flow.stop().await, ACCEPTED_WHILE_FROZEN).await
}

/// Its disk is full for 20 s, from the first byte that does not fit on: for its tables, its log, and the file that a new
/// session writes. No worker ends, and everything goes on when there is room again.
pub(crate) async fn full_disk(stage: &Stage) -> Tried {
    let disk = match small_disk().await {
        Ok(disk) => disk,
        Err(reason) => return Ok(Outcome::Skipped(reason)),
    };
    let setup = stage.setup().postgres_store(disk.folder().to_owned());
    let mut trial = Trial::start(setup, Manners::default()).await;
    let flow = trial.flow(stage).await;
    let full = Instant::now();
    while full.elapsed() < stage.pick(Duration::from_secs(20), Duration::from_secs(8)) {
        disk.fill().await?;
        forget_caches(disk.folder())?;
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    flow.is_accepted_by(trial.replicas()).await;
    disk.make_room()?;
    let has_ended = until_back(&mut trial).await;
    let answers = flow.stop().await;
    let refused = refused_sessions(&trial);
    let back = Instant::now();
    trial.settle_with(SETTLE).await;
    let drained = back.elapsed();
    let ended = ended(&mut trial)?;
    let mut report = trial.end(&answers).await;
    accepted(stage, &mut report, &answers, ACCEPTED);
    report.note(format!("{refused} sessions refused for want of disk"));
    report.note(if has_ended {
        "Postgres ended"
    } else {
        "Postgres went on"
    });
    report.at_most("services that ended", ended, 0);
    report.at_most("drained after", drained, stage.bound(DRAINED));
    disk.unmount().await?;
    Ok(Outcome::Ran(report))
}

async fn small_disk() -> Result<Disk, String> {
    require_root()?;
    Disk::mount("tables", SCARCE)
        .await
        .map_err(|error| format!("{error:#}"))
}

/// Waits until Postgres answers. It ends when it cannot write its log, and is then started by whoever runs it. Returns whether it
/// has ended.
async fn until_back(trial: &mut Trial) -> bool {
    let mut has_ended = false;
    until_within(SETTLE, "Postgres to answer", async || {
        let postgres = trial.stack_mut().postgres_mut();
        let ended = postgres.try_wait().map_err(|error| error.to_string())?;
        if ended.is_some() || postgres.pid().is_none() {
            has_ended = true;
            postgres.start().await.map_err(|error| format!("{error:#}"))?;
        }
        let asked = sqlx::query("select 1").execute(trial.database());
        match tokio::time::timeout(LOOK, asked).await {
            Ok(Ok(_)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    has_ended
}

/// Removes what a new session reads its catalogue from, so that it writes that again: as after any change of a catalogue.
fn forget_caches(folder: &Path) -> anyhow::Result<()> {
    let base = folder.join("postgres/data/base");
    for database in std::fs::read_dir(base)? {
        let removed = std::fs::remove_file(database?.path().join("pg_internal.init"));
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
    }
    Ok(())
}

/// How many of the two replicas of each service have ended. A process keeps its id until somebody asks.
fn ended(trial: &mut Trial) -> anyhow::Result<usize> {
    let mut ended = 0;
    for index in 0..2 {
        let stack = trial.stack_mut();
        ended += usize::from(stack.ingest_mut(index).try_wait()?.is_some());
        ended += usize::from(stack.worker_mut(index).try_wait()?.is_some());
    }
    Ok(ended)
}

fn refused_sessions(trial: &Trial) -> usize {
    let log = trial.stack().postgres().log();
    log.lines()
        .filter(|line| line.contains("FATAL") && line.contains("init file"))
        .count()
}

async fn end(stage: &Stage, trial: Trial, answers: Vec<Answered>, accepted_at_least: f64) -> Tried {
    let back = Instant::now();
    trial.settle_with(SETTLE).await;
    let drained = back.elapsed();
    let mut report = trial.end(&answers).await;
    accepted(stage, &mut report, &answers, accepted_at_least);
    report.at_most("drained after", drained, stage.bound(DRAINED));
    Ok(Outcome::Ran(report))
}

/// Adds the share of requests that were accepted. `at_least` is the bound of a full run.
pub(super) fn accepted(stage: &Stage, report: &mut Report, answers: &[Answered], at_least: f64) {
    let accepted = answers.iter().filter(|answer| answer.is_accepted()).count();
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = 100.0 * count(accepted) / count(answers.len());
    let at_least = stage.pick(at_least, ACCEPTED_IN_A_TEST);
    report.at_least("% accepted", share, at_least);
}
