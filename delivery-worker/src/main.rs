//! The delivery worker as a process: see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    match shared::process::config::parse::<delivery_worker::Config>() {
        Ok(config) => delivery_worker::start(config),
        Err(code) => code,
    }
}
