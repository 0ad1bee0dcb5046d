//! `cargo dev`: Penstock on this machine.

use std::process::ExitCode;

fn main() -> ExitCode {
    penstock_local::main()
}
