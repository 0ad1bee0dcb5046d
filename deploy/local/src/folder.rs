//! The data folder of one stack, held by one process at a time.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use tempfile::TempDir;

use crate::children::host::{Host, PASSABLE, try_lock};

/// How the names of temporary data folders begin.
const TEMPORARY: &str = "penstock-stack-";

const LOCK: &str = "lock";

/// Where a stack keeps its data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum DataFolder {
    /// In a new folder that is removed with the stack.
    #[default]
    Temporary,
    /// In this folder, which is made when it is missing and used again when it is not.
    Kept(PathBuf),
}

/// An open data folder.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    /// Whether its content survives the stack.
    pub(crate) kept: bool,
    _lock: File,
    _removed_on_drop: Option<TempDir>,
}

impl Folder {
    /// # Errors
    /// When another process uses the folder, or the user that runs Postgres cannot get there.
    pub(crate) async fn open(host: &Host, data: &DataFolder) -> anyhow::Result<Self> {
        let folder = match data {
            DataFolder::Temporary => Self::temporary(host).await?,
            DataFolder::Kept(path) => Self::kept(host, path)?,
        };
        folder.new_logs()?;
        Ok(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    fn kept(host: &Host, path: &Path) -> anyhow::Result<Self> {
        let path = std::path::absolute(path).with_context(|| format!("{} is no path", path.display()))?;
        host.make_passable(&path)?;
        let Some(lock) = lock(&path)? else {
            bail!(
                "another `cargo dev` runs on {}: stop it, or choose another folder with --data",
                path.display()
            );
        };
        Ok(Self {
            path,
            kept: true,
            _lock: lock,
            _removed_on_drop: None,
        })
    }

    async fn temporary(host: &Host) -> anyhow::Result<Self> {
        // A folder that is made and not locked yet looks like one that was left behind.
        let _guard = host.lock("temporary").await?;
        remove_left_behind();
        let folder = tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir()
            .context("cannot make a data folder")?;
        let path = folder.path().to_owned();
        if host.user.is_some() {
            fs::set_permissions(&path, Permissions::from_mode(PASSABLE))?;
        }
        host.make_passable(&path)?;
        let lock = lock(&path)?.context("a new data folder is locked already")?;
        Ok(Self {
            path,
            kept: false,
            _lock: lock,
            _removed_on_drop: Some(folder),
        })
    }

    /// An empty folder for logs. Those of the last run are kept next to it, older ones go: the logs of
    /// a data folder in daily use do not grow without end.
    fn new_logs(&self) -> anyhow::Result<()> {
        let logs = self.logs();
        let previous = self.path.join("logs.previous");
        if logs.exists() {
            if previous.exists() {
                fs::remove_dir_all(&previous).context("cannot remove old logs")?;
            }
            fs::rename(&logs, &previous).context("cannot set the last run's logs aside")?;
        }
        fs::create_dir(&logs).with_context(|| format!("cannot make {}", logs.display()))
    }
}

/// The folder's lock, or nothing when another process has it.
fn lock(folder: &Path) -> anyhow::Result<Option<File>> {
    try_lock(&folder.join(LOCK))
}

/// Removes temporary folders whose process was killed before it could do so itself.
fn remove_left_behind() {
    let entries = fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten();
    for entry in entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMPORARY)) {
        if let Ok(Some(_lock)) = lock(&entry.path()) {
            // Another user's folder, or one whose Postgres is just ending: the next start tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
