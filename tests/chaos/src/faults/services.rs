//! The two services, killed and restarted.

use std::time::Duration;

use e2e::{Manners, STOP_DEADLINE, Shutdown};

use super::Moments;
use crate::faults::servers::nats::refusals_are_polite;
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::{REPEATED, Trial};

/// How long the receiver takes over a webhook, so that a worker that dies has some in flight.
const DELAY: Duration = Duration::from_millis(20);

/// SIGKILL of one ingest-api after the other, 20 times in 60 s.
pub(crate) async fn kill_ingest(stage: &Stage) -> Tried {
    let trial = Trial::start(stage.setup(), Manners::default()).await;
    let mut trial = trial.with_keys();
    let flow = trial.flow(stage).await;
    let mut moments = Moments::every(Duration::from_secs(3));
    for number in 0..stage.pick(20, 3) {
        moments.next().await;
        let service = trial.stack_mut().ingest_mut(number % 2);
        service.kill().await?;
        service.start().await?;
    }
    flow.is_accepted_by(trial.replicas()).await;
    let report = trial.end(&flow.stop().await).await;
    Ok(Outcome::Ran(report))
}

/// SIGKILL of one worker after the other, 20 times in 60 s.
pub(crate) async fn kill_workers(stage: &Stage) -> Tried {
    let manners = Manners {
        delay: DELAY,
        ..Manners::default()
    };
    let mut trial = Trial::start(stage.setup(), manners).await.with_keys();
    let flow = trial.flow(stage).await;
    let kills = stage.pick(20, 3);
    let mut moments = Moments::every(Duration::from_secs(3));
    for number in 0..kills {
        moments.next().await;
        let service = trial.stack_mut().worker_mut(number % 2);
        service.kill().await?;
        service.start().await?;
    }
    let answers = flow.stop().await;
    let mut report = trial.end(&answers).await;
    let duplicated = report.verdict.duplicated.len();
    report.at_most("duplicates", duplicated, kills * REPEATED);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

/// SIGTERM of every process in turn; each is started again before the next one stops.
pub(crate) async fn restart_all(stage: &Stage) -> Tried {
    // NATS and Postgres are away one after the other, and no worker may lose its frames meanwhile.
    let trial = Trial::start(stage.patient_setup(), Manners::default()).await;
    let mut trial = trial.with_keys();
    let flow = trial.flow(stage).await;
    let rounds = stage.pick(3, 1);
    for _ in 0..rounds {
        restart_each(&mut trial).await?;
        flow.is_accepted_by(trial.replicas()).await;
    }
    let answers = flow.stop().await;
    let mut report = trial.end(&answers).await;
    let duplicated = report.verdict.duplicated.len();
    report.at_most("duplicates", duplicated, 0);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

async fn restart_each(trial: &mut Trial) -> anyhow::Result<()> {
    let stack = trial.stack_mut();
    for index in 0..2 {
        stack.ingest_mut(index).terminate(STOP_DEADLINE).await?;
        stack.ingest_mut(index).start().await?;
    }
    for index in 0..2 {
        stack.worker_mut(index).terminate(STOP_DEADLINE).await?;
        stack.worker_mut(index).start().await?;
    }
    stack.nats_mut().terminate(STOP_DEADLINE).await?;
    stack.nats_mut().start().await?;
    stack.postgres_mut().stop(Shutdown::Fast).await?;
    stack.postgres_mut().start().await
}
