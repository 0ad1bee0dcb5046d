//! Python packages for tests: official SDKs and tools, pinned, installed once for each version of Python.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::process::Command;
use tokio::sync::Mutex;

use crate::programs::fetched;

/// One installation at a time: tests run side by side and may want the same packages.
static INSTALLING: Mutex<()> = Mutex::const_new(());

/// A folder for `PYTHONPATH` with these packages, each pinned as `name==version`, and what they depend on.
///
/// # Panics
/// When pip cannot install them.
pub(crate) async fn packages(packages: &[&str]) -> PathBuf {
    let _turn = INSTALLING.lock().await;
    let name = format!("python-{}-{}", version().await, packages.join("-"));
    let folder = fetched::folder(&name, async |folder: &Path| {
        let output = Command::new("python3")
            .args([
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--root-user-action=ignore",
            ])
            .arg("--target")
            .arg(folder)
            .args(packages)
            .stdin(Stdio::null())
            .output()
            .await;
        let output = output.expect("python3 can be run");
        if output.status.success() {
            Ok(())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    })
    .await;
    folder.unwrap_or_else(|complaint| panic!("{complaint}"))
}

/// The version that compiled modules are made for, such as `cpython-311`.
async fn version() -> String {
    let script = "import sys; print(sys.implementation.cache_tag)";
    let output = Command::new("python3").args(["-c", script]).output().await;
    let output = output.expect("python3 can be run");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}
