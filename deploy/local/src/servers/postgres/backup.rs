//! What an operator does with Postgres's own programs and files: an archive of its WAL, base backups, and a restore.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use nix::sys::signal::Signal;

use super::Postgres;
use crate::children::host::Host;
use crate::children::process::Process;
use crate::children::spawn::Recipe;

/// A folder that its owner alone can enter, as Postgres demands it of its data.
const PRIVATE: u32 = 0o700;

/// Where a Postgres has its programs and its files.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) host: Host,
    /// The server's program.
    pub(super) server: PathBuf,
    pub(super) data: PathBuf,
    pub(super) logs: PathBuf,
}

impl Postgres {
    /// Makes an empty folder beside its data, for what its user writes.
    ///
    /// # Errors
    /// When there is one of that name.
    pub fn make_folder(&self, name: &str) -> anyhow::Result<PathBuf> {
        let folder = self.place.data.with_file_name(name);
        fs::create_dir(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::set_permissions(&folder, Permissions::from_mode(PRIVATE))?;
        self.place.host.hand_over(&folder)?;
        Ok(folder)
    }

    /// Runs one of the programs that come with the server, such as `pg_basebackup`, to its end, as the server's user.
    ///
    /// # Errors
    /// When there is no such program, or it fails; the end of what it printed is in the error.
    pub async fn run_program(&self, name: &str, args: &[&str]) -> anyhow::Result<()> {
        // On PATH may be a link to the server, without the others beside it.
        let server = self.place.server.canonicalize().context("the server is gone")?;
        let program = server.with_file_name(name);
        ensure!(program.is_file(), "there is no {}", program.display());
        let recipe = Recipe {
            name: name.to_owned(),
            launcher: self.place.host.program.clone(),
            command: program,
            args: args.iter().map(Into::into).collect(),
            env: Vec::new(),
            input: None,
            user: self.place.host.user_name(),
            folder: "/".into(),
            log: self.place.logs.join(name).with_extension("log"),
            output: None,
            last_signal: Signal::SIGKILL,
        };
        Process::run(recipe).await
    }

    /// Removes all data, as when the disk is lost.
    ///
    /// # Errors
    /// When it runs.
    pub fn lose_data(&self) -> anyhow::Result<()> {
        ensure!(self.process.pid().is_none(), "Postgres still runs on its data");
        fs::remove_dir_all(&self.place.data).context("cannot remove the data")
    }

    /// Moves a base backup to where the data was. At its next start Postgres fetches all WAL that `restore_command` finds,
    /// and then is a server of its own.
    ///
    /// # Errors
    /// When there is data.
    pub fn restore(&self, backup: &Path, restore_command: &str) -> anyhow::Result<()> {
        let data = &self.place.data;
        ensure!(!data.exists(), "{} is there", data.display());
        fs::rename(backup, data).with_context(|| format!("cannot move {}", backup.display()))?;
        let settings = OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.auto.conf"));
        let mut settings = settings.context("the backup has no settings")?;
        writeln!(
            settings,
            "restore_command = '{}'",
            restore_command.replace('\'', "''")
        )?;
        let signal = data.join("recovery.signal");
        fs::write(&signal, "")?;
        self.place.host.hand_over(&signal)
    }
}
