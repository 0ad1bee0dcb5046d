//! What a stack needs of this machine: the program that starts children, the user that Postgres runs as, the cache
//! folder.

use std::fs::{self, File, OpenOptions, Permissions, TryLockError};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::{User, geteuid};

use crate::progress::Progress;

/// Names the cache folder: `$XDG_CACHE_HOME/penstock`, or as root `/var/cache/penstock`, if unset.
const CACHE_VARIABLE: &str = "PENSTOCK_CACHE_DIR";

/// How often a lock that another process holds is tried again.
const LOCK_POLL: Duration = Duration::from_millis(50);

/// Anyone may pass through a folder with this mode, and only its owner may change it.
pub(crate) const PASSABLE: u32 = 0o755;

#[derive(Debug, Clone)]
pub(crate) struct Host {
    /// The program that has this library's `main`.
    pub(crate) program: PathBuf,
    /// Where downloaded programs and the databases to copy are kept, for all stacks of this machine.
    pub(crate) cache: PathBuf,
    /// Who runs Postgres, which refuses to run as root; none when we are not root.
    pub(crate) user: Option<Unprivileged>,
    pub(crate) progress: Progress,
}

#[derive(Debug, Clone)]
pub(crate) struct Unprivileged {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Host {
    pub(crate) fn new(program: Option<PathBuf>, progress: Progress) -> anyhow::Result<Self> {
        let program = match program {
            Some(program) => program,
            None => std::env::current_exe().context("cannot find this program's own file")?,
        };
        let user = if geteuid().is_root() {
            Some(Unprivileged::find()?)
        } else {
            None
        };
        let cache = cache_folder()?;
        let host = Self {
            program,
            cache,
            user,
            progress,
        };
        host.make_passable(&host.cache)?;
        Ok(host)
    }

    /// Makes a folder that the unprivileged user can enter, unless it is there already.
    ///
    /// # Errors
    /// When a folder on the way is closed to that user.
    pub(crate) fn make_passable(&self, folder: &Path) -> anyhow::Result<()> {
        self.check_reach(folder)?;
        if !folder.is_dir() {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
            if self.user.is_some() {
                fs::set_permissions(folder, Permissions::from_mode(PASSABLE))?;
            }
        }
        Ok(())
    }

    /// Looks at as much of `path` as exists.
    fn check_reach(&self, path: &Path) -> anyhow::Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        let existing = path.ancestors().find(|folder| folder.exists()).unwrap_or(path);
        let existing = existing
            .canonicalize()
            .with_context(|| format!("cannot find {}", path.display()))?;
        for folder in existing.ancestors() {
            if fs::metadata(folder)?.permissions().mode() & 0o001 == 0 {
                bail!(
                    "{} cannot be used: {} is closed to the user {}, and Postgres refuses to run as root",
                    path.display(),
                    folder.display(),
                    user.name,
                );
            }
        }
        Ok(())
    }

    /// Gives `path` to the unprivileged user.
    pub(crate) fn hand_over(&self, path: &Path) -> anyhow::Result<()> {
        let Some(user) = &self.user else { return Ok(()) };
        chown(path, Some(user.uid), Some(user.gid))
            .with_context(|| format!("cannot give {} to {}", path.display(), user.name))
    }

    pub(crate) fn user_name(&self) -> Option<String> {
        self.user.as_ref().map(|user| user.name.clone())
    }

    /// The folder `name` of the cache, which `make` makes when it is missing: whole, or not at all. Of several processes
    /// one makes it, and the others wait.
    pub(crate) async fn made_once(
        &self,
        name: &str,
        what: &str,
        make: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<PathBuf> {
        let folder = self.cache.join(name);
        if !folder.is_dir() {
            let _lock = self.lock(name).await?;
            if !folder.is_dir() {
                self.progress.step(what, make(&folder)).await?;
            }
        }
        Ok(folder)
    }

    /// Waits for the lock `name` of the cache folder, which lasts until the file is dropped. Tests in
    /// several processes start at once, and one of them is to do the work that all need.
    pub(crate) async fn lock(&self, name: &str) -> anyhow::Result<File> {
        let path = self.cache.join(format!("{name}.lock"));
        loop {
            match try_lock(&path)? {
                Some(file) => return Ok(file),
                None => tokio::time::sleep(LOCK_POLL).await,
            }
        }
    }
}

/// Locks a file, which is made when it is missing; `None` when another process has the lock. The kernel frees it with its holder.
pub(crate) fn try_lock(path: &Path) -> anyhow::Result<Option<File>> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path);
    let file = file.with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", path.display()))
        }
    }
}

impl Unprivileged {
    fn find() -> anyhow::Result<Self> {
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).context("cannot read the list of users")? {
                return Ok(Self {
                    name: name.to_owned(),
                    uid: user.uid.as_raw(),
                    gid: user.gid.as_raw(),
                });
            }
        }
        bail!("Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody`")
    }
}

/// Where what is fetched is kept: `PENSTOCK_CACHE_DIR`, or the user's usual place for that.
///
/// # Errors
/// When there is neither that variable nor a home.
pub fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let folder = if let Some(folder) = set(CACHE_VARIABLE) {
        folder
    } else if geteuid().is_root() {
        // Root's home is closed to the user that runs Postgres.
        PathBuf::from("/var/cache/penstock")
    } else if let Some(caches) = set("XDG_CACHE_HOME") {
        caches.join("penstock")
    } else if let Some(home) = set("HOME") {
        home.join(".cache/penstock")
    } else {
        bail!("set {CACHE_VARIABLE}: there is no HOME to keep downloaded programs in")
    };
    std::path::absolute(&folder).with_context(|| format!("{} is no path", folder.display()))
}
