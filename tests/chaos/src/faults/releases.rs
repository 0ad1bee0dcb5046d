//! The previous release and this one on one database: first the old services alone, then the migration, then both,
//! then the new ones alone.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{Manners, Replica, STOP_DEADLINE, Sink, Stack};
use tokio::process::Command;

use crate::faults::servers::nats::refusals_are_polite;
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::Trial;

/// 32 bytes in base64. `migrate` wants a key and uses none.
const ANY_KEY: &str = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";

/// Each of the four steps under load.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let Some(previous) = &stage.previous else {
        return Ok(Outcome::Skipped(
            "no previous release: --previous names the folder of its programs".to_owned(),
        ));
    };
    let step = stage.pick(Duration::from_secs(15), Duration::from_secs(2));
    let setup = stage.patient_setup().replicas(0, 0).not_migrated();
    let mut world = setup.start().await;
    migrate(world.stack(), &previous.join("delivery-worker")).await?;
    for _ in 0..2 {
        let ingest = old(&previous.join("ingest-api"))?;
        world.stack_mut().add_ingest_with(ingest).await?;
        let worker = old(&previous.join("delivery-worker"))?;
        world.stack_mut().add_worker_with(worker).await?;
    }
    let mut trial = Trial::assemble(world, Sink::start(Manners::default()).await, None).await;
    let mut answers = Vec::new();
    let flow = trial.flow(stage).await;
    tokio::time::sleep(step).await;
    trial.stack().migrate().await?;
    tokio::time::sleep(step).await;
    answers.extend(flow.stop().await);

    for _ in 0..2 {
        trial.stack_mut().add_ingest().await?;
        trial.stack_mut().add_worker().await?;
    }
    let flow = trial.flow(stage).await;
    tokio::time::sleep(step).await;
    for index in 0..2 {
        trial
            .stack_mut()
            .ingest_mut(index)
            .terminate(STOP_DEADLINE)
            .await?;
        trial
            .stack_mut()
            .worker_mut(index)
            .terminate(STOP_DEADLINE)
            .await?;
    }
    tokio::time::sleep(step).await;
    answers.extend(flow.stop().await);
    let mut report = trial.end(&answers).await;
    let duplicated = report.verdict.duplicated.len();
    report.at_most("duplicates", duplicated, 0);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

fn old(program: &Path) -> anyhow::Result<Replica> {
    ensure!(program.is_file(), "there is no {}", program.display());
    Ok(Replica {
        program: Some(program.canonicalize()?),
        env: Vec::new(),
    })
}

/// Brings the database to the previous release's schema.
async fn migrate(stack: &Stack, worker: &Path) -> anyhow::Result<()> {
    let mut command = Command::new(worker);
    command.arg("migrate").kill_on_drop(true);
    command.env("DATABASE_URL", stack.database_url());
    command.env("SECRETS_KEY", ANY_KEY);
    let output = command.output().await;
    let output = output.with_context(|| format!("cannot run {}", worker.display()))?;
    ensure!(
        output.status.success(),
        "{} migrate fails: {}",
        worker.display(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}
