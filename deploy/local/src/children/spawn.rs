//! How a child is made: always by one thread, always through `exec`.

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, PipeWriter};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, mpsc};

use anyhow::Context;
use nix::sys::signal::Signal;

/// Everything needed to start one child, any number of times.
pub(crate) struct Recipe {
    /// Its name in messages: `postgres`, `delivery-worker 0`.
    pub(crate) name: String,
    /// The program whose subcommand `exec` starts `command`.
    pub(crate) launcher: PathBuf,
    pub(crate) command: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Added to this process's environment; the last entry of a name wins.
    pub(crate) env: Vec<(String, String)>,
    /// What it reads on standard input; nothing if absent.
    pub(crate) input: Option<PathBuf>,
    /// The user it runs as, when this process is root and it must not be.
    pub(crate) user: Option<String>,
    /// Its working folder. Never ours, which another user may not be able to enter.
    pub(crate) folder: PathBuf,
    /// Where its output is appended.
    pub(crate) log: PathBuf,
    /// Where its output goes instead, if not there.
    pub(crate) output: Option<PipeWriter>,
    /// The signal that ends it: the kernel sends it when this process dies, and this process when the handle is
    /// dropped.
    pub(crate) last_signal: Signal,
}

impl Recipe {
    /// Starts it. That takes a fork, not a wait.
    pub(crate) fn spawn(&self) -> anyhow::Result<Child> {
        let command = self
            .command()
            .with_context(|| format!("cannot prepare {}", self.name))?;
        let (reply, answer) = mpsc::sync_channel(1);
        SPAWNER
            .send(Order { command, reply })
            .expect("the spawning thread never ends");
        let child = answer.recv().expect("the spawning thread answers every order");
        child.with_context(|| format!("cannot start {} with {}", self.name, self.launcher.display()))
    }

    fn command(&self) -> anyhow::Result<Command> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log);
        let log = log.with_context(|| format!("cannot write {}", self.log.display()))?;
        let input = self
            .input
            .as_ref()
            .map(File::open)
            .transpose()
            .context("cannot read its input")?;

        let mut command = tied_to_us(&self.launcher, self.last_signal, self.user.as_deref());
        command.arg(&self.command).args(&self.args);
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        command.current_dir(&self.folder);
        command.stdin(input.map_or_else(Stdio::null, Stdio::from));
        match &self.output {
            Some(pipe) => command.stdout(pipe.try_clone()?).stderr(pipe.try_clone()?),
            None => command.stdout(log.try_clone()?).stderr(log),
        };
        // A group of its own: Ctrl-C reaches every process of the terminal's group, and the children
        // are to be stopped in order, by us.
        command.process_group(0);
        Ok(command)
    }
}

/// The command line of `launcher` that becomes whatever is appended to it, and gets `last_signal` when
/// the thread that started it ends.
pub(crate) fn tied_to_us(launcher: &Path, last_signal: Signal, user: Option<&str>) -> Command {
    let mut command = Command::new(launcher);
    command.args(["exec", "--parent", &std::process::id().to_string()]);
    command.args(["--last-signal", last_signal.as_str()]);
    if let Some(user) = user {
        command.args(["--user", user]);
    }
    command.arg("--");
    command
}

struct Order {
    command: Command,
    reply: mpsc::SyncSender<io::Result<Child>>,
}

/// The kernel sends a child its last signal when the *thread* that forked it ends. Tests and runtimes
/// start children from threads that come and go, so one thread that never ends does it for all.
static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
    let (orders, incoming) = mpsc::channel::<Order>();
    std::thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for mut order in incoming {
                // `Recipe::spawn` waits for the answer without an await, so it cannot have gone away.
                let _ = order.reply.send(order.command.spawn());
            }
        })
        .expect("a thread can be started");
    orders
});
