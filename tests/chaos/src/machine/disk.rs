//! A disk of its own for a server.

use std::ffi::OsStr;
use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::machine::run;

/// Bytes of a [`Disk`] that is to hold all that is written to it, and of one that is to become full.
pub(crate) const AMPLE: u64 = 1 << 30;
pub(crate) const SCARCE: u64 = 1 << 28;

/// `EXT4_IOC_SHUTDOWN`, which is `_IOR('X', 125, __u32)`, with `EXT4_GOING_FLAGS_NOLOGFLUSH`. In Python, because
/// this workspace forbids `unsafe` code.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))";

/// An ext4 in a file, mounted, whose power can be cut. It holds what one nats-server stores.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    store: PathBuf,
    folder: PathBuf,
    home: TempDir,
}

impl Disk {
    /// For the server whose folder of that name a stack makes: `nats`, or `nats-0` in a cluster.
    ///
    /// # Errors
    /// When this machine cannot mount one.
    pub(crate) async fn mount(server: &str, bytes: u64) -> anyhow::Result<Self> {
        Self::mount_in(&std::env::temp_dir(), server, bytes).await
    }

    /// The same in another folder: the image may lie on another disk.
    pub(crate) async fn mount_in(parent: &Path, server: &str, bytes: u64) -> anyhow::Result<Self> {
        let home = tempfile::Builder::new()
            .prefix("penstock-disk-")
            .tempdir_in(parent)?;
        let disk = Self {
            image: home.path().join("image"),
            store: home.path().join("store"),
            folder: home.path().join("store").join(server),
            home,
        };
        std::fs::create_dir_all(&disk.folder)?;
        // Postgres runs as another user.
        std::fs::set_permissions(disk.home.path(), Permissions::from_mode(0o755))?;
        std::fs::File::create(&disk.image)?.set_len(bytes)?;
        run("mkfs.ext4", [OsStr::new("-q"), disk.image.as_os_str()]).await?;
        disk.remount().await?;
        Ok(disk)
    }

    /// The folder of all servers' folders, for [`NatsOptions`](e2e::NatsOptions).
    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    /// From now on nothing reaches the disk any more, and reading fails.
    ///
    /// No process may be in a sync and live on: Linux 6.18 lets a sync that is cut off say that it has written what is
    /// gone. A disk without power answers with an error, or not at all.
    pub(crate) async fn cut_power(&self) -> anyhow::Result<()> {
        let args = [OsStr::new("-c"), OsStr::new(SHUTDOWN), self.folder.as_os_str()];
        run("python3", args).await?;
        Ok(())
    }

    /// Where it is mounted.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Holds up everything that is written to it, until the [thaw](Self::thaw).
    pub(crate) async fn freeze(&self) -> anyhow::Result<()> {
        run("fsfreeze", [OsStr::new("-f"), self.folder.as_os_str()]).await?;
        Ok(())
    }

    pub(crate) async fn thaw(&self) -> anyhow::Result<()> {
        run("fsfreeze", [OsStr::new("-u"), self.folder.as_os_str()]).await?;
        Ok(())
    }

    /// Writes a file until nothing more goes on the disk, also not what is kept for root.
    pub(crate) async fn fill(&self) -> anyhow::Result<()> {
        let filler = self.filler();
        let filling = tokio::task::spawn_blocking(move || {
            let mut file = OpenOptions::new().create(true).append(true).open(filler)?;
            let block = vec![0; 4_096];
            loop {
                match file.write_all(&block) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => return file.sync_all(),
                    Err(error) => return Err(error),
                }
            }
        });
        match filling.await? {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Removes that file.
    pub(crate) fn make_room(&self) -> anyhow::Result<()> {
        Ok(std::fs::remove_file(self.filler())?)
    }

    fn filler(&self) -> PathBuf {
        self.folder.join("filler")
    }

    /// Mounts it, as after a power cut: the kernel replays the log.
    pub(crate) async fn remount(&self) -> anyhow::Result<()> {
        let _ = self.unmount().await;
        let args = [
            OsStr::new("-o"),
            OsStr::new("loop"),
            self.image.as_os_str(),
            self.folder.as_os_str(),
        ];
        run("mount", args).await?;
        Ok(())
    }

    /// # Errors
    /// When it is not mounted, or something uses it.
    pub(crate) async fn unmount(&self) -> anyhow::Result<()> {
        run("umount", [&self.folder]).await?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // After a failure; else it is unmounted already, and this does nothing.
        let _ = std::process::Command::new("umount")
            .args([OsStr::new("-l"), self.folder.as_os_str()])
            .stderr(std::process::Stdio::null())
            .status();
    }
}
