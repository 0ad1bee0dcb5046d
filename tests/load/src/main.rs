//! `cargo load`: measures Penstock on this machine, each figure beside controls that do less, in the same run.
//!
//! This program starts a whole stack through `deploy/local`, whose processes are this program again under hidden
//! subcommands, as are the controls. The modules stand in the order in which a run meets them.

mod cli;
mod sections;
mod bench;
mod site;
mod control;
mod sink;
mod keys;
mod seed;
mod usage;
mod report;
mod client;

use std::process::ExitCode;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        // What the stack starts its children with.
        Some("exec" | "ingest-api" | "delivery-worker") => penstock_local::main(),
        Some(control::SUBCOMMAND) => control::main(),
        _ => cli::main(),
    }
}
