//! A backup and a restore as the runbook has them: an archive of the WAL, a base backup, and what waits in the streams.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{Manners, STOP_DEADLINE, Shutdown, Sink, World, until};
use shared::domain::id::EventId;
use sqlx::AssertSqlSafe;
use tokio::process::Command;

use super::nats::refusals_are_polite;
use super::postgres::{ACCEPTED, accepted};
use crate::report::{Outcome, Tried};
use crate::stage::Stage;
use crate::trial::{SETTLE, Trial};

/// Postgres's disk is lost while events flow. A base backup was taken before, and all WAL since is archived; what is
/// accepted meanwhile waits in the streams.
pub(crate) async fn run(stage: &Stage) -> Tried {
    let mut world = stage.patient_setup().replicas(0, 0).start().await;
    let archive = archive_wal(&mut world).await?;
    for _ in 0..2 {
        world.stack_mut().add_ingest().await?;
        world.stack_mut().add_worker().await?;
    }
    let mut trial = Trial::assemble(world, Sink::start(Manners::default()).await, None).await;
    let flow = trial.flow(stage).await;
    let backup = back_up(&trial).await?;
    let in_backup = delivered(&trial).await?;
    tokio::time::sleep(stage.pick(Duration::from_secs(30), Duration::ZERO)).await;
    more_is_delivered(&trial, in_backup.len()).await;

    for index in 0..2 {
        let worker = trial.stack_mut().worker_mut(index);
        worker.terminate(STOP_DEADLINE).await?;
    }
    all_wal_is_archived(&trial).await?;
    let postgres = trial.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Immediate).await?;
    postgres.lose_data()?;
    flow.is_accepted_by(trial.replicas()).await;
    restore(&mut trial, &backup, &archive).await?;
    let restored = delivered(&trial).await?;
    let taken = taken(&trial.sink);
    restart_services(&mut trial).await?;
    flow.is_accepted_by(trial.replicas()).await;

    let answers = flow.stop().await;
    trial.settle_with(SETTLE).await;
    audit(stage, &trial).await?;
    let mut report = trial.end(&answers).await;
    let from_wal = restored.difference(&in_backup).count();
    report.at_least("deliveries that came back from WAL alone", from_wal, 1);
    // Workers record all results before they end, and the WAL of these is archived.
    let forgotten = taken.difference(&restored).count();
    report.at_most("deliveries that the restored tables do not know of", forgotten, 0);
    // Those alone may be sent again.
    let duplicated = report.verdict.duplicated.len();
    report.at_most("duplicates", duplicated, forgotten);
    accepted(stage, &mut report, &answers, ACCEPTED);
    refusals_are_polite(&mut report, &answers);
    Ok(Outcome::Ran(report))
}

/// Has every segment of WAL copied to a folder, which is returned.
async fn archive_wal(world: &mut World) -> anyhow::Result<PathBuf> {
    let archive = world.stack().postgres().make_folder("archive")?;
    let command = format!(
        "test ! -f {0}/%f && cp %p {0}/%f",
        archive.to_str().context("its path is no text")?
    );
    for (setting, value) in [("archive_mode", "on"), ("archive_command", command.as_str())] {
        let statement = AssertSqlSafe(format!("alter system set {setting} = '{value}'"));
        sqlx::query(statement).execute(world.database()).await?;
    }
    let postgres = world.stack_mut().postgres_mut();
    postgres.stop(Shutdown::Fast).await?;
    postgres.start().await?;
    Ok(archive)
}

/// Takes a base backup, and verifies it.
async fn back_up(world: &World) -> anyhow::Result<PathBuf> {
    let postgres = world.stack().postgres();
    let backup = postgres.make_folder("backup")?;
    let folder = backup.to_str().context("its path is no text")?;
    let args = [
        "--dbname",
        postgres.url(),
        "--pgdata",
        folder,
        "--checkpoint=fast",
        "--wal-method=stream",
    ];
    postgres.run_program("pg_basebackup", &args).await?;
    postgres.run_program("pg_verifybackup", &[folder]).await?;
    Ok(backup)
}

/// The events that the tables know to be delivered.
async fn delivered(world: &World) -> anyhow::Result<BTreeSet<EventId>> {
    let query = sqlx::query_scalar("select event_id from deliveries where status = 'delivered'");
    let events: Vec<EventId> = query.fetch_all(world.database()).await?;
    Ok(events.into_iter().collect())
}

/// The events whose webhooks were answered with success.
fn taken(sink: &Sink) -> BTreeSet<EventId> {
    let receipts = sink.receipts().into_iter().filter(|receipt| receipt.taken);
    receipts.map(|receipt| receipt.id).collect()
}

async fn more_is_delivered(world: &World, than: usize) {
    until("further events to be delivered", async || {
        let now = delivered(world).await.map_err(|error| error.to_string())?.len();
        if now > than { Ok(()) } else { Err(now.to_string()) }
    })
    .await;
}

/// Ends the segment that is written to, and waits until the archive has it.
async fn all_wal_is_archived(world: &World) -> anyhow::Result<()> {
    // The named point is a record of WAL: an empty segment would not be ended.
    let query = "select pg_walfile_name(pg_switch_wal()) from pg_create_restore_point('disaster')";
    let last: String = sqlx::query_scalar(query).fetch_one(world.database()).await?;
    until(&format!("{last} to be archived"), async || {
        let query = sqlx::query_scalar("select coalesce(last_archived_wal, '') from pg_stat_archiver");
        let archived: Result<String, _> = query.fetch_one(world.database()).await;
        let archived = archived.map_err(|error| error.to_string())?;
        if archived >= last { Ok(()) } else { Err(archived) }
    })
    .await;
    Ok(())
}

/// Brings the tables back as they were at the end of the archive.
async fn restore(trial: &mut Trial, backup: &Path, archive: &Path) -> anyhow::Result<()> {
    let postgres = trial.stack_mut().postgres_mut();
    postgres.restore(backup, &format!("cp {}/%f %p", archive.display()))?;
    postgres.start().await?;
    // It answers before that, and only reads.
    until("Postgres to end its recovery", async || {
        let query = sqlx::query_scalar("select pg_is_in_recovery()");
        let recovers: Result<bool, _> = query.fetch_one(trial.database()).await;
        match recovers {
            Ok(false) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    Ok(())
}

/// Migrates, starts the workers, and restarts ingest-api, a replica at a time.
async fn restart_services(trial: &mut Trial) -> anyhow::Result<()> {
    let stack = trial.stack_mut();
    stack.migrate().await?;
    for index in 0..2 {
        stack.worker_mut(index).start().await?;
    }
    for index in 0..2 {
        stack.ingest_mut(index).terminate(STOP_DEADLINE).await?;
        stack.ingest_mut(index).start().await?;
    }
    Ok(())
}

/// Runs `delivery-worker audit`, which finds nothing that is stuck.
async fn audit(stage: &Stage, world: &World) -> anyhow::Result<()> {
    let mut command = Command::new(&stage.program);
    command.args(["delivery-worker", "audit"]).kill_on_drop(true);
    command.env("DATABASE_URL", world.stack().database_url());
    command.env("NATS_URL", world.stack().nats_urls());
    let output = command.output().await.context("cannot run the audit")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "the audit ends with {}: {complaint}",
        output.status
    );
    Ok(())
}
