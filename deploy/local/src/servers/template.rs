//! A database with this build's schema and the partitions that a worker makes today, kept in the cache folder. Most stacks are
//! a test's, and each of them would run every migration and make every partition anew.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use shared::domain::clock::UnixMicros;

use crate::children::host::Host;
use crate::children::ports::PortBook;
use crate::folder::{DataFolder, Folder};
use crate::servers::binaries;
use crate::servers::cluster::{Files, keep};
use crate::servers::postgres::{Postgres, Shutdown};

/// How the names of these databases begin.
const NAME: &str = "migrated-cluster-";

/// The age from which one is removed. Copies are made on its own day.
const KEPT: Duration = Duration::from_hours(48);

/// The folder to copy, made when it is missing.
pub(crate) async fn migrated(host: &Host) -> anyhow::Result<PathBuf> {
    let programs = binaries::postgres(host).await?;
    let today = UnixMicros::now().to_date_time().date();
    let name = format!(
        "{NAME}{}-{}-{today}",
        programs.version,
        shared::db::schema_digest()
    );
    let make = async |folder: &Path| Box::pin(make(host, folder)).await;
    host.made_once(&name, "migrating a database to copy", make).await
}

/// Migrates a database in a folder of its own, and keeps the files that it leaves when it has stopped.
async fn make(host: &Host, folder: &Path) -> anyhow::Result<()> {
    remove_old(&host.cache);
    let data = Folder::open(host, &DataFolder::Temporary).await?;
    let mut postgres = Postgres::launch(host, &data, &PortBook::default(), &Files::default()).await?;
    postgres.migrate().await?;
    #[cfg(feature = "services")]
    postgres.make_partitions().await?;
    postgres.drop_other_databases().await?;
    postgres.stop(Shutdown::Fast).await?;
    keep(&data.path().join("postgres"), folder)
        .await
        .context("cannot keep a migrated database")
}

/// Removes the databases of other days, and the files that locked them.
fn remove_old(cache: &Path) {
    let entries = fs::read_dir(cache).into_iter().flatten().flatten();
    for entry in entries.filter(is_old) {
        let path = entry.path();
        // What cannot be removed is tried again on another day.
        let _ = if path.is_dir() {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
    }
}

fn is_old(entry: &DirEntry) -> bool {
    let made = entry.metadata().and_then(|metadata| metadata.modified());
    let age = made.ok().and_then(|made| made.elapsed().ok());
    entry.file_name().to_string_lossy().starts_with(NAME) && age > Some(KEPT)
}
