//! What some faults need of the machine: root, a file system of their own, network namespaces.

use std::ffi::OsStr;
use std::fs::{OpenOptions, Permissions};
use std::io::{ErrorKind, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use e2e::{Namespace, Signal, until};
use nix::sys::signal::kill;
use nix::unistd::{Pid, geteuid};
use tempfile::TempDir;
use tokio::process::Command;

/// Bytes of a [`Disk`] that is to hold all that is written to it, and of one that is to become full.
pub(crate) const AMPLE: u64 = 1 << 30;
pub(crate) const SCARCE: u64 = 1 << 28;

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

/// Stops a process (SIGSTOP) and waits until each of its threads is in one of `states`: `T` stopped, `D` in a system call
/// that cannot be interrupted, such as a sync. What such a call returns is seen by nobody before the process goes on.
///
/// # Errors
/// When it does not run.
pub(crate) async fn stop(pid: u32, states: &str) -> anyhow::Result<()> {
    signal(pid, Signal::SIGSTOP)?;
    until("every thread to stop", async || {
        let now = thread_states(pid).map_err(|error| error.to_string())?;
        if now.chars().all(|state| states.contains(state)) {
            Ok(())
        } else {
            Err(now)
        }
    })
    .await;
    Ok(())
}

pub(crate) fn signal(pid: u32, signal: Signal) -> anyhow::Result<()> {
    kill(Pid::from_raw(pid.cast_signed()), signal).with_context(|| format!("cannot send {signal}"))
}

fn thread_states(pid: u32) -> std::io::Result<String> {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))?.flatten();
    let state = |thread: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).ok()?;
        // `id (name) state …`, and the name may hold anything.
        stat.rsplit_once(") ")?.1.chars().next()
    };
    Ok(threads.filter_map(state).collect())
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

/// The time that a process and its children have had on a processor.
///
/// # Errors
/// When it does not run.
pub(crate) fn processor_time(pid: u32) -> anyhow::Result<Duration> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    let children = children.split_whitespace().filter_map(|child| child.parse().ok());
    // A child may end meanwhile; the time of those that have ended is the parent's.
    let of_children: u64 = children.filter_map(|child: u32| ticks(child, 11..13).ok()).sum();
    // The kernel's unit in `/proc`, whatever it counts in itself.
    Ok(Duration::from_millis(10 * (ticks(pid, 11..15)? + of_children)))
}

/// The sum of fields of `/proc/<pid>/stat`, counted from the process's state on: its own time in user and system mode, and
/// then that of its ended children.
fn ticks(pid: u32, fields: std::ops::Range<usize>) -> anyhow::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name, in parentheses, may hold anything.
    let (_, rest) = stat.rsplit_once(") ").context("the kernel writes it otherwise")?;
    let fields = rest.split(' ').skip(fields.start).take(fields.len());
    Ok(fields.filter_map(|field| field.parse::<u64>().ok()).sum())
}

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
