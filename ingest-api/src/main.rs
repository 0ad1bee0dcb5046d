//! The ingest API as a process: see the library for what it does.

use std::process::ExitCode;

/// `tests/load/README.md` tells what it saves.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match shared::config::parse::<ingest_api::Config>() {
        Ok(config) => ingest_api::start(config),
        Err(code) => code,
    }
}
