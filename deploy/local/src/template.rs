//! A database with this build's schema, kept in the cache folder. Most stacks are a test's, and each of them would run
//! every migration anew.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::binaries;
use crate::cluster::{Files, keep};
use crate::folder::{DataFolder, Folder};
use crate::host::Host;
use crate::ports::PortBook;
use crate::postgres::{Postgres, Shutdown};

/// The folder to copy, made when it is missing.
pub(crate) async fn migrated(host: &Host) -> anyhow::Result<PathBuf> {
    let programs = binaries::postgres(host).await?;
    let name = format!(
        "migrated-cluster-{}-{}",
        programs.version,
        shared::db::schema_digest()
    );
    let make = async |folder: &Path| Box::pin(make(host, folder)).await;
    host.made_once(&name, "migrating a database to copy", make).await
}

/// Migrates a database in a folder of its own, and keeps the files that it leaves when it has stopped.
async fn make(host: &Host, folder: &Path) -> anyhow::Result<()> {
    let data = Folder::open(host, &DataFolder::Temporary).await?;
    let mut postgres = Postgres::launch(host, &data, &PortBook::default(), &Files::default()).await?;
    postgres.migrate().await?;
    postgres.stop(Shutdown::Fast).await?;
    keep(&data.path().join("postgres"), folder)
        .await
        .context("cannot keep a migrated database")
}
