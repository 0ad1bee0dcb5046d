//! Lines for the person at the terminal.

use std::io::Write as _;

/// Prints a line. Output that nobody reads any more is no reason to stop.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}
