//! Processes: signals, and the time that they use.

use std::time::Duration;

use anyhow::Context;
use e2e::{Signal, until};
use nix::sys::signal::kill;
use nix::unistd::Pid;

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
