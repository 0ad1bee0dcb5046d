//! `cargo chaos`: runs faults and prints what became of every event.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use chaos::{Fault, Outcome, Stage, heading, row};
use clap::Parser;

/// Fault tests of Penstock. Ends with status 1 when an event was lost or altered, or a bound did not hold.
#[derive(Debug, Parser)]
#[command(name = "cargo chaos")]
struct Cli {
    /// Which faults; all but the soak if none is named.
    faults: Vec<Fault>,

    /// A few seconds of each, at a fifth of the load.
    #[arg(long)]
    quick: bool,

    /// Folder with the previous release's `ingest-api` and `delivery-worker`, for `releases`.
    #[arg(long)]
    previous: Option<PathBuf>,

    /// How often the power fails, in the faults that cut it [default: 16, or 4 with --quick].
    #[arg(long)]
    cuts: Option<usize>,

    /// How long the soak lasts.
    #[arg(long, default_value_t = 10)]
    minutes: u64,
}

fn main() -> ExitCode {
    // The processes of a stack are started by this program too, under subcommands of the local stack's.
    let first = std::env::args().nth(1);
    if matches!(first.as_deref(), Some("exec" | "ingest-api" | "delivery-worker")) {
        return penstock_local::main();
    }
    match run(Cli::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            shared::process::output::complain(&format!("cargo chaos: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(cli: Cli) -> anyhow::Result<bool> {
    let stage = Stage {
        program: std::env::current_exe().context("cannot find this program's own file")?,
        quick: cli.quick,
        previous: cli.previous,
        cuts: cli.cuts,
        soak: Duration::from_secs(cli.minutes * 60),
    };
    let faults = if cli.faults.is_empty() {
        Fault::all().collect()
    } else {
        cli.faults
    };
    let mut good = true;
    println!("{}", heading());
    for fault in faults {
        let outcome = fault.run(&stage).await;
        println!("{}", row(&fault.name(), &outcome));
        good &= match outcome {
            Outcome::Ran(report) => report.is_good(),
            Outcome::Skipped(_) => true,
        };
    }
    Ok(good)
}
