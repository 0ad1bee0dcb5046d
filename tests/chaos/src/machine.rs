//! What some faults need of the machine: root, a file system of their own, network namespaces.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use e2e::Namespace;
use nix::unistd::geteuid;
use tempfile::TempDir;
use tokio::process::Command;

/// Bytes of a [`Disk`].
const DISK_BYTES: u64 = 1 << 30;

/// `EXT4_IOC_SHUTDOWN`, which is `_IOR('X', 125, __u32)`, with `EXT4_GOING_FLAGS_NOLOGFLUSH`. In Python, because
/// this workspace forbids `unsafe` code.
const SHUTDOWN: &str = "import fcntl, os, struct, sys
folder = os.open(sys.argv[1], os.O_RDONLY)
fcntl.ioctl(folder, 0x8004587D, struct.pack('I', 2))";

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

/// An ext4 in a file, mounted, whose power can be cut.
#[derive(Debug)]
pub(crate) struct Disk {
    image: PathBuf,
    folder: PathBuf,
    _home: TempDir,
}

impl Disk {
    /// # Errors
    /// When this machine cannot mount one.
    pub(crate) async fn mount() -> anyhow::Result<Self> {
        let home = tempfile::Builder::new().prefix("penstock-disk-").tempdir()?;
        let disk = Self {
            image: home.path().join("image"),
            folder: home.path().join("mounted"),
            _home: home,
        };
        std::fs::create_dir(&disk.folder)?;
        std::fs::File::create(&disk.image)?.set_len(DISK_BYTES)?;
        run("mkfs.ext4", [OsStr::new("-q"), disk.image.as_os_str()]).await?;
        disk.remount().await?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// From now on nothing reaches the disk any more, and reading fails.
    pub(crate) async fn cut_power(&self) -> anyhow::Result<()> {
        let args = [OsStr::new("-c"), OsStr::new(SHUTDOWN), self.folder.as_os_str()];
        run("python3", args).await?;
        Ok(())
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

/// Network namespaces of servers on one bridge, which this machine reaches.
#[derive(Debug)]
pub(crate) struct Network {
    bridge: String,
    namespaces: Vec<Namespace>,
}

impl Network {
    /// # Errors
    /// When this machine cannot make one.
    pub(crate) async fn make(nodes: usize) -> anyhow::Result<Self> {
        // Two runs at once must not meet.
        let [high, low] = rand::random::<[u8; 2]>();
        let mut network = Self {
            bridge: format!("penstock{high:02x}{low:02x}"),
            namespaces: Vec::new(),
        };
        ip(&format!("link add {} type bridge", network.bridge)).await?;
        ip(&format!("addr add 10.{high}.{low}.1/24 dev {}", network.bridge)).await?;
        ip(&format!("link set {} up", network.bridge)).await?;
        for index in 0..nodes {
            let last = u8::try_from(index + 2).context("too many servers for one network")?;
            let namespace = Namespace {
                name: format!("{}-{index}", network.bridge),
                address: IpAddr::from([10, high, low, last]),
            };
            network.add(index, namespace).await?;
        }
        Ok(network)
    }

    async fn add(&mut self, index: usize, namespace: Namespace) -> anyhow::Result<()> {
        let (name, address) = (namespace.name.clone(), namespace.address);
        let cable = self.cable(index);
        ip(&format!("netns add {name}")).await?;
        self.namespaces.push(namespace);
        ip(&format!("link add {cable} type veth peer name eth0 netns {name}")).await?;
        ip(&format!("link set {cable} master {} up", self.bridge)).await?;
        ip(&format!("-n {name} addr add {address}/24 dev eth0")).await?;
        ip(&format!("-n {name} link set eth0 up")).await?;
        ip(&format!("-n {name} link set lo up")).await
    }

    /// The name of this machine's end of a server's cable; the kernel allows 15 characters.
    fn cable(&self, index: usize) -> String {
        format!("{}.{index}", self.bridge)
    }

    /// Where the servers are.
    pub(crate) fn namespaces(&self) -> Vec<Namespace> {
        self.namespaces.clone()
    }

    /// Sets a server's cable `up` or `down`.
    pub(crate) async fn set(&self, index: usize, state: &str) -> anyhow::Result<()> {
        ip(&format!("link set {} {state}", self.cable(index))).await
    }
}

async fn ip(command: &str) -> anyhow::Result<()> {
    run("ip", command.split(' ')).await?;
    Ok(())
}

impl Drop for Network {
    fn drop(&mut self) {
        // A namespace's end of a cable goes with it, and with that the other end.
        let namespaces = self
            .namespaces
            .iter()
            .map(|namespace| vec!["netns", "del", &namespace.name]);
        for command in namespaces.chain([vec!["link", "del", &self.bridge]]) {
            let _ = std::process::Command::new("ip").args(command).status();
        }
    }
}
