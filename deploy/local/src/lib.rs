//! Penstock on one machine: a real nats-server, a real Postgres and both services as child processes
//! in one data folder. `cargo dev` runs it and every end-to-end test uses it through [`Stack`].
//!
//! The children are started by the program itself under hidden subcommands (`exec`, `ingest-api`,
//! `delivery-worker`), so a program that starts a [`Stack`] either has [`main`] as its own `main` or
//! names one that does in [`StackOptions::program`].

// `println!` and `eprintln!` panic when nobody reads any more.
#![warn(clippy::print_stdout, clippy::print_stderr)]

mod cli;
mod dev;

mod stack;
mod options;
mod folder;
mod state;
mod service;
#[cfg(feature = "services")]
mod services;

mod progress;
mod say;
mod servers;
mod children;

use std::process::ExitCode;

pub use self::children::host::cache_folder;
pub use self::children::ports::reserve_port;
pub use self::children::process::Process;
pub use self::servers::nats::Nats;
pub use self::servers::postgres::{Postgres, Shutdown};
pub use folder::DataFolder;
pub use nix::sys::signal::Signal;
pub use options::{Namespace, NatsOptions, NatsSync, Replica, StackOptions};
pub use service::Service;
pub use stack::Stack;

/// What a program's `main` does to be `penstock-local` under another name.
pub fn main() -> ExitCode {
    cli::main()
}
