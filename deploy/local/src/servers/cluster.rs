//! The files of a Postgres, copied from a template. `initdb` takes longer than the start of everything else, so it is
//! run once per version and machine; its result is kept in the cache folder and copied.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use data_encoding::HEXLOWER;
use nix::sys::signal::Signal;
use shared::secret::random_bytes;

use crate::children::host::Host;
use crate::children::process::Process;
use crate::children::spawn::Recipe;
use crate::folder::Folder;
use crate::servers::binaries::Found;
use crate::servers::scram;

/// The superuser and the database, as the services' `DATABASE_URL` names them.
pub(crate) const NAME: &str = "penstock";

/// Where the files of a Postgres are, and what they are copied from.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The folder that they are in, if it is not the data folder.
    pub(crate) store: Option<PathBuf>,
    /// The folder that a new cluster is copied from, if it is not to be empty.
    pub(crate) template: Option<PathBuf>,
}

/// Postgres's files and the password of its superuser.
#[derive(Debug)]
pub(crate) struct Cluster {
    folder: PathBuf,
    /// Whether it was made just now, so that nothing can be in it yet.
    pub(crate) new: bool,
}

impl Cluster {
    /// The cluster of a data folder, made if it has none.
    ///
    /// # Errors
    /// When it was made by another major version.
    pub(crate) async fn open(
        host: &Host,
        programs: &Found,
        data: &Folder,
        files: &Files,
    ) -> anyhow::Result<Self> {
        let folder = files.store.as_deref().unwrap_or(data.path()).join("postgres");
        let new = !folder.is_dir();
        if new {
            let template = match &files.template {
                Some(template) => template.clone(),
                None => empty(host, programs).await?,
            };
            copy(&template, &folder, data.kept).await?;
        }
        let cluster = Self { folder, new };
        let made_by =
            fs::read_to_string(cluster.data().join("PG_VERSION")).context("cannot read PG_VERSION")?;
        let major = programs.version.major.to_string();
        ensure!(
            made_by.trim() == major,
            "the database in {} is from Postgres {}, and this is Postgres {major}: remove that folder to start afresh",
            cluster.folder.display(),
            made_by.trim(),
        );
        Ok(cluster)
    }

    /// What `postgres -D` wants.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    pub(crate) fn password(&self) -> anyhow::Result<String> {
        let password = fs::read_to_string(self.folder.join("password"));
        Ok(password
            .context("cannot read the database's password")?
            .trim()
            .to_owned())
    }
}

/// The folder of an empty cluster, made when it is missing. All copies on one machine have the same random password.
async fn empty(host: &Host, programs: &Found) -> anyhow::Result<PathBuf> {
    let name = format!("empty-cluster-{}", programs.version);
    let make = async |folder: &Path| make(host, programs, folder).await;
    host.made_once(&name, "creating the database", make).await
}

/// Runs `initdb` and creates the database, in a folder that gets its name when it is complete.
async fn make(host: &Host, programs: &Found, folder: &Path) -> anyhow::Result<()> {
    let stage = folder.with_added_extension("partial");
    if stage.exists() {
        fs::remove_dir_all(&stage).context("cannot remove an interrupted initdb")?;
    }
    fs::create_dir(&stage).with_context(|| format!("cannot make {}", stage.display()))?;
    fs::set_permissions(&stage, fs::Permissions::from_mode(0o700))?;
    let password = stage.join("password");
    let secret = HEXLOWER.encode(&random_bytes::<16>());
    fs::write(&password, &secret)?;
    fs::set_permissions(&password, fs::Permissions::from_mode(0o600))?;
    let sql = stage.join("create.sql");
    let verifier = scram::verifier(&secret, &random_bytes());
    fs::write(
        &sql,
        format!("CREATE DATABASE {NAME};\nALTER ROLE {NAME} PASSWORD '{verifier}';\n"),
    )?;
    for path in [&stage, &password, &sql] {
        host.hand_over(path)?;
    }

    let data = stage.join("data").display().to_string();
    let log = folder.with_added_extension("log");
    let pwfile = format!("--pwfile={}", password.display());
    let superuser = format!("--username={NAME}");
    let recipe = |program: &str, args: &[&str], input| Recipe {
        name: program.to_owned(),
        launcher: host.program.clone(),
        command: programs.folder.join(program),
        args: args.iter().map(Into::into).collect(),
        env: Vec::new(),
        input,
        user: host.user_name(),
        folder: stage.clone(),
        log: log.clone(),
        output: None,
        last_signal: Signal::SIGKILL,
    };
    // Copies are synced when they are made, so this one need not be.
    let initdb = [
        "-D",
        &data,
        &superuser,
        &pwfile,
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        "--locale=C",
        "--no-sync",
    ];
    Process::run(recipe("initdb", &initdb, None)).await?;
    Process::run(recipe(
        "postgres",
        &["--single", "-D", &data, "postgres"],
        Some(sql.clone()),
    ))
    .await?;
    fs::remove_file(&sql)?;
    fs::rename(&stage, folder).with_context(|| format!("cannot make {}", folder.display()))
}

/// Copies a cluster that does not run, to be copied from: the copy is there as a whole or not at all.
pub(crate) async fn keep(cluster: &Path, folder: &Path) -> anyhow::Result<()> {
    copy(cluster, folder, false).await
}

/// Copies the template, off the runtime's threads: it is tens of megabytes in a thousand files.
async fn copy(template: &Path, folder: &Path, durable: bool) -> anyhow::Result<()> {
    let (from, to, stage) = (
        template.to_owned(),
        folder.to_owned(),
        folder.with_added_extension("partial"),
    );
    let copying = tokio::task::spawn_blocking(move || {
        if stage.exists() {
            fs::remove_dir_all(&stage)?;
        }
        copy_tree(&from, &stage)?;
        if durable {
            nix::unistd::sync();
        }
        fs::rename(&stage, &to)
    });
    copying
        .await?
        .with_context(|| format!("cannot copy {} to {}", template.display(), folder.display()))
}

/// Copies folders and files with their modes and owners. A cluster made without options has nothing else.
fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(from)?;
    if metadata.is_dir() {
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            copy_tree(&entry.path(), &to.join(entry.file_name()))?;
        }
        fs::set_permissions(to, metadata.permissions())?;
    } else {
        fs::copy(from, to)?;
    }
    if nix::unistd::geteuid().is_root() {
        lchown(to, Some(metadata.uid()), Some(metadata.gid()))?;
    }
    Ok(())
}
