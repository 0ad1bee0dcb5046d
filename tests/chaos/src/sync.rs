//! The power fails in the middle of a sync: what a process was told must be on the disk.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use e2e::until;
use tokio::process::{Child, Command};

use crate::faults::servers::power::Loss;
use crate::machine::disk::{AMPLE, Disk};
use crate::machine::require_root;

/// Bytes of the disk, which lies on another one that can hold it up.
const BYTES: u64 = 64 << 20;

/// How long a sync is held up at most.
const HELD_UP: Duration = Duration::from_secs(2);

/// Syncs one record and leaves the file `ready`; then, when the file `go` is there, writes another one, leaves the file `written`, syncs, and leaves
/// the file `told`.
const WRITER: &str = "import os, sys, time
file, notes = sys.argv[1:]
disk = os.open(file, os.O_CREAT | os.O_WRONLY)
os.pwrite(disk, b'1' * 1000, 0)
os.fsync(disk)
open(notes + '/ready', 'w').close()
while not os.path.exists(notes + '/go'): time.sleep(0.01)
os.pwrite(disk, b'2' * 1000, 1000)
open(notes + '/written', 'w').close()
os.fsync(disk)
open(notes + '/told', 'w').close()
time.sleep(1000)";

/// What became of a record.
#[derive(Clone, Copy, Debug)]
pub struct Record {
    /// Its writer was told that it is on the disk.
    pub told: bool,
    /// It is there after the cut.
    pub kept: bool,
}

/// Cuts the power, or lets the disk die, while a process syncs a record. An inner error is the reason to skip it.
///
/// # Errors
/// When something else fails.
pub async fn cut_off(loss: Loss) -> anyhow::Result<Result<Record, String>> {
    if let Err(reason) = require_root() {
        return Ok(Err(reason));
    }
    let below = match Disk::mount("below", AMPLE).await {
        Ok(disk) => disk,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    let disk = Disk::mount_in(below.folder(), "above", BYTES).await?;
    let notes = tempfile::tempdir()?;
    let file = disk.folder().join("file");
    let mut writer = write(&file, notes.path())?;
    let pid = writer.id().context("the writer has ended")?;

    until_exists(&notes.path().join("ready")).await;
    below.freeze().await?;
    std::fs::write(notes.path().join("go"), "")?;
    until_exists(&notes.path().join("written")).await;
    let cut = async {
        let cut = loss.befall(pid, &disk).await;
        cut.map(|()| notes.path().join("told").exists())
    };
    let (told, thawed) = tokio::join!(cut, async {
        until_unreadable(&file).await;
        below.thaw().await
    });
    thawed?;
    let told = told? || told_later(notes.path()).await;
    writer.kill().await?;
    disk.remount().await?;
    let kept = std::fs::read(&file)?.get(1_000..) == Some(&[b'2'; 1_000]);
    disk.unmount().await?;
    drop(disk);
    below.unmount().await?;
    Ok(Ok(Record { told, kept }))
}

fn write(file: &Path, notes: &Path) -> anyhow::Result<Child> {
    let mut command = Command::new("python3");
    command.arg("-c").arg(WRITER).args([file, notes]);
    let child = command.stdin(Stdio::null()).kill_on_drop(true).spawn();
    child.context("cannot run python3")
}

async fn until_exists(path: &Path) {
    until(&format!("{}", path.display()), async || {
        path.exists().then_some(()).ok_or_else(String::new)
    })
    .await;
}

/// Until the disk is gone, or for as long as a sync may be held up: a disk that dies waits for it.
async fn until_unreadable(file: &Path) {
    let begun = Instant::now();
    while tokio::fs::read(file).await.is_ok() && begun.elapsed() < HELD_UP {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A process that goes on is told in a moment, if at all.
async fn told_later(notes: &Path) -> bool {
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(500) {
        if notes.join("told").exists() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}
