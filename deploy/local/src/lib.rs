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
mod demo;
mod receiver;
mod supervise;

mod stack;
mod options;
mod folder;
mod state;
mod service;
#[cfg(feature = "services")]
mod services;
mod nats;
mod postgres;
mod cluster;
mod scram;
mod template;

mod binaries;
mod version;
mod host;
mod ports;
mod progress;
mod say;

mod process;
mod spawn;
mod exec;

use std::process::ExitCode;

pub use folder::DataFolder;
pub use host::cache_folder;
pub use nats::Nats;
pub use nix::sys::signal::Signal;
pub use options::{Namespace, NatsOptions, NatsSync, Replica, StackOptions};
pub use ports::reserve_port;
pub use postgres::{Postgres, Shutdown};
pub use process::Process;
pub use service::Service;
pub use stack::Stack;

/// What a program's `main` does to be `penstock-local` under another name.
pub fn main() -> ExitCode {
    cli::main()
}
