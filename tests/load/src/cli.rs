//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Parser;

use crate::bench::{Bench, Effort};
use crate::report::table;
use crate::sections::Section;

/// Measures Penstock on this machine, each figure beside controls in the same run.
#[derive(Debug, Parser)]
#[command(name = "cargo load")]
struct Cli {
    /// What to measure [default: everything].
    sections: Vec<Section>,

    /// Less of everything, in less than two minutes: enough to see that something is much slower than it was.
    #[arg(long)]
    quick: bool,

    /// Rounds of each comparison; a figure is their median [default: 5, or 2 with --quick].
    #[arg(long)]
    rounds: Option<usize>,

    /// Seconds of one measurement [default: 5, or 0.8 with --quick].
    #[arg(long)]
    seconds: Option<f64>,

    /// Share of the full number of rows and keys in the sections `flat`, `neighbour` and `memory` [default: 1, or
    /// 0.02 with --quick].
    #[arg(long)]
    scale: Option<f64>,

    /// Another build of this program, which is measured as `before`: its `ingest-api` in the section `single`, all of it in
    /// `cost` and in `delivery`, which then looks for nothing but the highest rates of both.
    #[arg(long)]
    against: Option<PathBuf>,

    /// Where load.json and load.svg go [default: target/load].
    #[arg(long)]
    output: Option<PathBuf>,
}

impl Cli {
    fn effort(&self) -> Effort {
        let (rounds, seconds, scale) = if self.quick { (2, 0.8, 0.02) } else { (5, 5.0, 1.0) };
        Effort {
            rounds: self.rounds.unwrap_or(rounds).max(1),
            slice: Duration::from_secs_f64(self.seconds.unwrap_or(seconds).clamp(0.2, 600.0)),
            quick: self.quick,
            scale: self.scale.unwrap_or(scale).clamp(0.0, 1.0),
        }
    }
}

/// Reads the command line and measures.
pub(crate) fn main() -> ExitCode {
    // An error says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cargo load: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let report = runtime.context("cannot start the runtime")?.block_on(async {
        let mut bench = Bench::new(cli.effort(), cli.against.clone());
        let sections = if cli.sections.is_empty() {
            Section::ALL
        } else {
            &cli.sections
        };
        for section in sections {
            Box::pin(section.measure(&mut bench)).await?;
        }
        anyhow::Ok(bench.finish())
    })?;
    print!("{}", table::render(&report));
    let folder = report.write(cli.output.clone())?;
    println!("\n{0}/load.json, {0}/load.svg", folder.display());
    Ok(())
}
