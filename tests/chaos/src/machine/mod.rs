//! What some faults need of the machine: root, processes, a file system of their own, network namespaces.

pub(crate) mod process;
pub(crate) mod disk;
pub(crate) mod network;

use std::ffi::OsStr;

use anyhow::{Context, ensure};
use nix::unistd::geteuid;
use tokio::process::Command;

/// # Errors
/// With the reason to skip what only root can do.
pub(crate) fn require_root() -> Result<(), String> {
    if geteuid().is_root() {
        Ok(())
    } else {
        Err("it needs root".to_owned())
    }
}

/// Runs a program to its end.
///
/// # Errors
/// With what it printed when it fails.
pub(crate) async fn run(
    program: &str,
    args: impl IntoIterator<Item = impl AsRef<OsStr>>,
) -> anyhow::Result<String> {
    let output = Command::new(program).args(args).kill_on_drop(true).output().await;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} fails: {}", said.trim());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
