//! The local stack's program under the name that the tests know it by: every process of a test's stack is
//! started by it.

use std::process::ExitCode;

fn main() -> ExitCode {
    penstock_local::main()
}
