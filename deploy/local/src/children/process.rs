//! A child process that can be killed, ended and started again, and that never outlives its handle.

use std::collections::VecDeque;
use std::fmt;
use std::io::PipeWriter;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

use crate::children::spawn::Recipe;

/// How often a condition is looked at while waiting for it.
const POLL: Duration = Duration::from_millis(10);

/// How long one look may take: a server that accepts and says nothing is not ready.
const LOOK: Duration = Duration::from_secs(2);

/// How long a server may take until it answers: nats-server reads its streams first, and Postgres replays its log after a kill.
pub(crate) const READY_DEADLINE: Duration = Duration::from_secs(30);

/// How long a child has to follow its last signal before it is killed.
const LAST_SIGNAL_GRACE: Duration = Duration::from_secs(5);

/// How much of a log goes into an error.
const TAIL_LINES: usize = 20;

/// One process of the stack: nats-server, Postgres or a service. Dropping it ends the process.
pub struct Process {
    recipe: Recipe,
    child: Option<Child>,
    started: Instant,
}

impl Process {
    /// A process that is not started yet.
    pub(crate) fn new(recipe: Recipe) -> Self {
        Self {
            recipe,
            child: None,
            started: Instant::now(),
        }
    }

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it fails; the end of what it printed is in the error.
    pub(crate) async fn run(recipe: Recipe) -> anyhow::Result<()> {
        let mut process = Self::new(recipe);
        process.spawn()?;
        let status = process.wait().await?;
        ensure!(
            status.success(),
            "{} {}{}",
            process.name(),
            describe(status),
            process.tail()
        );
        Ok(())
    }

    /// Starts it, without waiting for anything.
    pub(crate) fn spawn(&mut self) -> anyhow::Result<()> {
        self.try_wait()?;
        ensure!(self.child.is_none(), "{} already runs", self.name());
        self.started = Instant::now();
        self.child = Some(self.recipe.spawn()?);
        Ok(())
    }

    /// Its name in messages, such as `delivery-worker 0`.
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Its process id; none when it was stopped or its end was noticed.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// When it was last started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// Sends it a signal, to it alone and not to its children. After SIGSTOP it stands still: nothing more comes from it.
    ///
    /// # Errors
    /// When it does not run.
    pub fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let pid = self
            .pid()
            .with_context(|| format!("{} does not run", self.name()))?;
        // An unreaped child keeps its id, so this never reaches a stranger.
        let pid = Pid::from_raw(pid.cast_signed());
        kill(pid, signal).with_context(|| format!("cannot send {signal} to {}", self.name()))?;
        if signal == Signal::SIGSTOP {
            // Its threads stop one after the other, the last one soon after this.
            let is_over = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
            waitid(Id::Pid(pid), is_over).with_context(|| format!("{} does not stop", self.name()))?;
        }
        Ok(())
    }

    /// Sends it a signal, then its children.
    ///
    /// # Errors
    /// When it does not run, or /proc cannot be read.
    pub(crate) fn signal_tree(&self, signal: Signal) -> anyhow::Result<()> {
        // First, so that a process that is being stopped forks no more.
        self.signal(signal)?;
        let parent = self.pid().unwrap_or_default();
        for child in children(parent).context("cannot list processes")? {
            // One that has ended meanwhile needs no signal.
            let _ = kill(Pid::from_raw(child), signal);
        }
        Ok(())
    }

    /// Kills it (SIGKILL) and waits until it is gone. Does nothing when it does not run.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        if self.pid().is_some() {
            self.signal(Signal::SIGKILL)?;
            self.wait().await?;
        }
        Ok(())
    }

    /// Asks it to stop (SIGTERM) and waits for that; kills it when `deadline` has passed.
    ///
    /// # Errors
    /// When it does not run.
    pub async fn terminate(&mut self, deadline: Duration) -> anyhow::Result<ExitStatus> {
        self.stop_with(Signal::SIGTERM, deadline).await
    }

    pub(crate) async fn stop_with(
        &mut self,
        signal: Signal,
        deadline: Duration,
    ) -> anyhow::Result<ExitStatus> {
        self.signal(signal)?;
        if let Ok(status) = tokio::time::timeout(deadline, self.wait()).await {
            return status;
        }
        self.signal(Signal::SIGKILL)?;
        self.wait().await
    }

    /// How it ended, the first time it is asked after its end; none while it runs or when it was
    /// stopped before.
    pub fn try_wait(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else {
            return Ok(None);
        };
        let status = child
            .try_wait()
            .with_context(|| format!("cannot look after {}", self.recipe.name))?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Waits until it ends by itself.
    async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        ensure!(self.child.is_some(), "{} does not run", self.name());
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until `look` succeeds.
    ///
    /// # Errors
    /// At once when the process ends, or after [`READY_DEADLINE`]; both with the end of its log.
    pub(crate) async fn until_ready<Look>(
        &mut self,
        mut look: impl FnMut() -> Look + Send,
    ) -> anyhow::Result<()>
    where
        Look: Future<Output = anyhow::Result<()>> + Send,
    {
        let end = Instant::now() + READY_DEADLINE;
        loop {
            let seen = match tokio::time::timeout(LOOK, look()).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => "it does not answer".to_owned(),
            };
            if let Some(status) = self.try_wait()? {
                bail!("{} {}{}", self.name(), describe(status), self.tail());
            }
            if Instant::now() > end {
                bail!(
                    "{} was not ready after {READY_DEADLINE:?}: {seen}{}",
                    self.name(),
                    self.tail()
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Sends its output into a pipe from its next start on, and not into its log. For tests of a process whose log has
    /// a reader that stands still or has gone away.
    pub fn send_output_to(&mut self, pipe: PipeWriter) {
        self.recipe.output = Some(pipe);
    }

    /// Everything it has printed since the stack was started, over all its starts.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.recipe.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The end of its log, ready to be put behind a line that says what happened.
    pub(crate) fn tail(&self) -> String {
        let log = self.log();
        let mut lines: VecDeque<_> = log.lines().collect();
        lines.drain(..lines.len().saturating_sub(TAIL_LINES));
        let heading = format!("; the end of {}:", self.recipe.log.display());
        lines
            .into_iter()
            .fold(heading, |text, line| text + "\n    " + line)
    }

    /// Whether the end of its log complains that its port is in use.
    pub(crate) fn port_was_taken(&self) -> bool {
        self.tail().to_lowercase().contains("address already in use")
    }
}

/// The ids of the processes whose parent this is.
fn children(parent: u32) -> std::io::Result<Vec<i32>> {
    let parent = parent.to_string();
    let processes = std::fs::read_dir("/proc")?.flatten();
    let ids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |id: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // `id (name) state parent …`, and the name may hold anything.
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        after_name.split_whitespace().nth(1) == Some(&parent)
    };
    Ok(ids.filter(is_child).collect())
}

/// How a process ended, as a verb.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => format!("ended: {status}"),
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.is_none() {
            return;
        }
        // A process that a test has stopped, or a child of it, follows no signal but SIGKILL until it is continued.
        let _ = self.signal(self.recipe.last_signal);
        let _ = self.signal_tree(Signal::SIGCONT);
        let end = Instant::now() + LAST_SIGNAL_GRACE;
        while matches!(self.try_wait(), Ok(None)) && self.child.is_some() {
            if Instant::now() > end {
                let _ = self.signal(Signal::SIGKILL);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the environment: it holds keys.
        f.debug_struct("Process")
            .field("name", &self.name())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
