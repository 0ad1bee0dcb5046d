//! The ingest API as a process: see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    match shared::process::config::parse::<ingest_api::Config>() {
        Ok(config) => ingest_api::start(config),
        Err(code) => code,
    }
}
