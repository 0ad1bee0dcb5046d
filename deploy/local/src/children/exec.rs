//! The hidden subcommand `exec`, which a child runs before it becomes its program. It drops privileges and asks the
//! kernel to end the process with its parent. So no server is left behind when the parent is killed and cannot clean
//! up.

use std::ffi::{CString, OsString};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};
use std::str::FromStr;

use anyhow::{Context, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, User};
use shared::process::output::complain;

/// What a shell answers when a command cannot be run.
const CANNOT_RUN: u8 = 127;

/// Becomes another program that ends when its parent does.
#[derive(Debug, clap::Args)]
pub(crate) struct Exec {
    /// The process id of the parent.
    #[arg(long)]
    parent: i32,

    /// The signal that this process gets when the parent ends.
    #[arg(long, value_parser = Signal::from_str)]
    last_signal: Signal,

    /// The user to become.
    #[arg(long)]
    user: Option<String>,

    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Exec {
    /// Does not return unless the program cannot be run.
    pub(crate) fn run(self) -> ExitCode {
        let (program, args) = self
            .command
            .split_first()
            .expect("clap requires one word at least");
        let error = match self.prepare() {
            Ok(()) => Command::new(program).args(args).exec().into(),
            Err(error) => error,
        };
        complain(&format!("cannot run {}: {error:#}", program.display()));
        ExitCode::from(CANNOT_RUN)
    }

    /// The order matters: the kernel forgets the signal when the user changes, and the parent may be
    /// gone before the kernel was asked.
    fn prepare(&self) -> anyhow::Result<()> {
        if let Some(user) = &self.user {
            become_user(user)?;
        }
        nix::sys::prctl::set_pdeathsig(self.last_signal).context("cannot ask to end with the parent")?;
        if nix::unistd::getppid() != Pid::from_raw(self.parent) {
            bail!("the process that wanted it is gone");
        }
        Ok(())
    }
}

fn become_user(name: &str) -> anyhow::Result<()> {
    let user = User::from_name(name)?.with_context(|| format!("there is no user {name}"))?;
    nix::unistd::initgroups(&CString::new(name)?, user.gid).context("cannot set the groups")?;
    nix::unistd::setgid(user.gid).context("cannot set the group")?;
    nix::unistd::setuid(user.uid).with_context(|| format!("cannot become {name}"))
}
