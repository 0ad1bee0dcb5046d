//! Postgres, crashed and hanging.

use std::time::{Duration, Instant};

use e2e::{Answered, Manners, Shutdown};

use super::Moments;
use crate::report::{Outcome, Report};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial};

/// How much of the requests with a verified key must be accepted meanwhile, in per cent.
const ACCEPTED: f64 = 99.0;

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
    end(stage, trial, flow.stop().await).await
}

/// SIGSTOP of all its processes for 10 s.
pub(crate) async fn freeze(stage: &Stage) -> anyhow::Result<Outcome> {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let flow = trial.flow(stage).await;
    trial.stack().postgres().freeze()?;
    tokio::time::sleep(stage.pick(Duration::from_secs(10), Duration::from_secs(4))).await;
    trial.stack().postgres().thaw()?;
    end(stage, trial, flow.stop().await).await
}

async fn end(stage: &Stage, trial: Trial, answers: Vec<Answered>) -> anyhow::Result<Outcome> {
    let back = Instant::now();
    trial.settle_within(SETTLE).await;
    let drained = back.elapsed();
    let mut report = trial.end(&answers).await;
    accepted(&mut report, &answers);
    report.at_most("drained after", drained, stage.bound(DRAINED));
    Ok(Outcome::Ran(report))
}

fn accepted(report: &mut Report, answers: &[Answered]) {
    let accepted = answers.iter().filter(|answer| answer.is_accepted()).count();
    let count = |count: usize| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
    let share = 100.0 * count(accepted) / count(answers.len());
    report.at_least("% accepted", share, ACCEPTED);
}
