//! The command line.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use clap::Parser;
use nix::sys::signal::Signal;
use shared::process::output::complain;
use tokio::process::Command;

use crate::children::exec::Exec;
use crate::children::host::Host;
use crate::children::ports::PortBook;
use crate::children::spawn::tied_to_us;
use crate::dev::{self, DevOptions, StopSignals};
use crate::folder::{DataFolder, Folder};
use crate::progress::Progress;
use crate::servers::cluster::Files;
use crate::servers::postgres::{Postgres, Shutdown};
#[cfg(feature = "services")]
use crate::services::ServiceCommand;

/// Penstock on this machine: nats-server, Postgres, ingest-api, delivery-worker and a demo receiver.
#[derive(Debug, Parser)]
#[command(name = "penstock-local", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    dev: DevOptions,

    #[command(subcommand)]
    command: Option<Subcommand>,
}

#[derive(Debug, clap::Subcommand)]
enum Subcommand {
    /// Runs a command with `DATABASE_URL` of a temporary Postgres that has Penstock's tables.
    ExecWithPostgres {
        /// The command and its arguments.
        #[arg(last = true, required = true)]
        command: Vec<OsString>,
    },
    #[command(hide = true)]
    Exec(Exec),
    #[cfg(feature = "services")]
    #[command(flatten)]
    Service(ServiceCommand),
}

/// Reads the command line and does what it says.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        None => block_on(dev::run(cli.dev)).map(|()| ExitCode::SUCCESS),
        Some(Subcommand::ExecWithPostgres { command }) => block_on(exec_with_postgres(&command)),
        Some(Subcommand::Exec(exec)) => return exec.run(),
        #[cfg(feature = "services")]
        Some(Subcommand::Service(service)) => return service.run(),
    };
    outcome.unwrap_or_else(|error| {
        complain(&format!("penstock-local: {error:#}"));
        ExitCode::FAILURE
    })
}

fn block_on<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let outcome = runtime.block_on(work);
    // Work that still runs, such as copying files for a start that was given up, is not waited for.
    runtime.shutdown_background();
    outcome
}

async fn exec_with_postgres(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut stop = StopSignals::listen()?;
    let host = Host::new(None, Progress { shown: true })?;
    let folder = Folder::open(&host, &DataFolder::Temporary).await?;
    let start = async {
        let postgres = Postgres::launch(&host, &folder, &PortBook::default(), &Files::default()).await?;
        postgres.migrate().await?;
        anyhow::Ok(postgres)
    };
    let mut postgres = tokio::select! {
        started = start => started?,
        () = stop.requested() => return Ok(ExitCode::FAILURE),
    };
    let mut child = Command::from(tied_to_us(&host.program, Signal::SIGTERM, None))
        .args(command)
        .env("DATABASE_URL", postgres.url())
        .kill_on_drop(true)
        .spawn()
        .context("cannot start the command")?;
    let status = tokio::select! {
        status = child.wait() => status?,
        // Ctrl-C reaches the command too; it is given no time beyond this.
        () = stop.requested() => {
            child.kill().await?;
            child.wait().await?
        }
    };
    postgres.stop(Shutdown::Fast).await?;
    Ok(exit_code(status))
}

/// A shell's convention for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or_default());
    u8::try_from(code).map_or(ExitCode::FAILURE, ExitCode::from)
}
