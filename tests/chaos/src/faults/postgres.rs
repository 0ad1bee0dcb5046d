//! Postgres, crashed and hanging.

use std::time::{Duration, Instant};

use e2e::{Answered, Manners, Shutdown};

use super::Moments;
use crate::report::{Outcome, Report};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial};

/// How much of the requests with a verified key must be accepted meanwhile, in per cent.
const ACCEPTED: f64 = 99.0;

/// The same while Postgres only hangs: nobody can revoke the key.
const ACCEPTED_WHILE_FROZEN: f64 = 100.0;

/// Events a second while Postgres hangs: as many as can be delivered soon after so long.
const RATE_WHILE_FROZEN: u32 = 100;

/// How soon after the fault everything must be delivered.
const DRAINED: Duration = Duration::from_secs(30);

/// `pg_ctl stop -m immediate` 10 times in 60 s, for two seconds each.
pub(crate) async fn crash(stage: &Stage) -> anyhow::Result<Outcome> {
    let mut trial = Trial::start(stage.setup(), Manners::default()).await;
    let flow = trial.flow(stage).await;
    let mut moments = Moments::every(Duration::from_secs(6));
    for _ in 0..stage.pick(10, 2) {
        moments.next().await;
        let postgres = trial.stack_mut().postgres_mut();
        postgres.stop(Shutdown::Immediate).await?;
        tokio::time::sleep(Duration::from_secs(2)).await;
        postgres.start().await?;
    }
    end(stage, trial, flow.stop().await, ACCEPTED).await
}

/// SIGSTOP of all its processes for 10 minutes: ten times as long as keys are cached.
pub(crate) async fn freeze(stage: &Stage) -> anyhow::Result<Outcome> {
    let (seconds, ttl) = stage.pick((600, "1m"), (20, "2s"));
    let setup = stage.setup().ingest_env("KEY_CACHE_TTL", ttl);
    let trial = Trial::start(setup, Manners::default()).await;
    let flow = trial.flow_of(RATE_WHILE_FROZEN).await;
    trial.stack().postgres().freeze()?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    trial.stack().postgres().thaw()?;
    end(stage, trial, flow.stop().await, ACCEPTED_WHILE_FROZEN).await
}

async fn end(
    stage: &Stage,
    trial: Trial,
    answers: Vec<Answered>,
    accepted_at_least: f64,
) -> anyhow::Result<Outcome> {
    let back = Instant::now();
    trial.settle_within(SETTLE).await;
    let drained = back.elapsed();
    let mut report = trial.end(&answers).await;
    accepted(&mut report, &answers, accepted_at_least);
    report.at_most("drained after", drained, stage.bound(DRAINED));
    Ok(Outcome::Ran(report))
}

fn accepted(report: &mut Report, answers: &[Answered], at_least: f64) {
    let accepted = answers.iter().filter(|answer| answer.is_accepted()).count();
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = 100.0 * count(accepted) / count(answers.len());
    report.at_least("% accepted", share, at_least);
}
