//! What `cargo dev` and the tests run has the allocator of what is shipped.

use std::path::{Path, PathBuf};
use std::process::Command;

/// mimalloc tells what it does, if it is asked to and if it is there.
#[test]
fn the_local_stack_runs_on_mimalloc() {
    let output = Command::new(env!("CARGO_BIN_EXE_penstock-local"))
        .arg("--version")
        .env("MIMALLOC_VERBOSE", "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("mimalloc"), "{said:?}");
}

/// All programs with a service in them depend on `shared`, and the compiler lets a program have only one allocator.
#[test]
fn the_allocator_is_chosen_in_one_place() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut found = Vec::new();
    for folder in ["shared", "ingest-api", "delivery-worker", "deploy", "tests"] {
        find(&root.join(folder), &mut found);
    }
    assert_eq!(found, [root.join("shared/src/process/allocator.rs")]);
}

/// The sources that choose an allocator.
fn find(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("it is a folder") {
        let path = entry.expect("it can be read").path();
        if path.is_dir() {
            find(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("it is text");
            if source.lines().any(|line| line.trim() == "#[global_allocator]") {
                found.push(path);
            }
        }
    }
}
