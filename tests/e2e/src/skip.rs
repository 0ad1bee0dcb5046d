//! Tests that this machine cannot run.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

/// The file with a line for each skipped test.
const FILE: &str = "skipped";

/// Says on standard error that the calling test is skipped: not by `eprintln!`, of which the test harness shows nothing when a
/// test passes. Appends the same line to the file `skipped` in `folder`, the caller's `CARGO_TARGET_TMPDIR`.
///
/// # Panics
/// When neither can be written.
pub fn skip(folder: &str, reason: &str) {
    let thread = std::thread::current();
    // The test harness names a test's thread after the test.
    let test = thread.name().unwrap_or("a test");
    let line = format!("SKIPPED: {test}: {reason}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr is open");
    let path = Path::new(folder).join(FILE);
    let file = OpenOptions::new().create(true).append(true).open(path);
    // In one piece: other tests append too.
    let written = file.and_then(|mut file| file.write_all(line.as_bytes()));
    written.expect("the build folder can be written");
}
