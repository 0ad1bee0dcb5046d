//! What processes cost, from `/proc`.

use std::fs;
use std::time::Duration;

use anyhow::Context as _;

/// What the table calls Postgres.
pub(crate) const POSTGRES: &str = "postgres";

/// A process whose cost is counted. Postgres's children count as it.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    /// What the table calls it. Processes of one name are counted together.
    pub(crate) name: &'static str,
    pub(crate) pid: u32,
}

impl Watched {
    /// The load itself, with the receivers of webhooks.
    pub(crate) fn this_program() -> Self {
        Self {
            name: "client",
            pid: std::process::id(),
        }
    }
}

/// Processor time of each watched process up to now.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot(Vec<(&'static str, Duration)>);

impl Snapshot {
    pub(crate) fn take(watched: &[Watched]) -> Self {
        let cost = |watched: &Watched| {
            let with_children = watched.name == POSTGRES;
            (
                watched.name,
                processor_time(watched.pid, with_children).unwrap_or_default(),
            )
        };
        Self(watched.iter().map(cost).collect())
    }

    /// Processor time since, by name.
    pub(crate) fn since(&self, watched: &[Watched]) -> Vec<(&'static str, Duration)> {
        let mut sums: Vec<(&'static str, Duration)> = Vec::new();
        for ((name, before), (_, now)) in self.0.iter().zip(Self::take(watched).0) {
            let used = now.saturating_sub(*before);
            match sums.iter_mut().find(|(known, _)| known == name) {
                Some((_, sum)) => *sum += used,
                None => sums.push((name, used)),
            }
        }
        sums
    }
}

/// Peak resident memory of a process without its children, in MB of 1 000 000 bytes.
pub(crate) fn peak_mb(pid: u32) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.with_context(|| format!("{path} has no VmHWM"))? * 1_024.0 / 1_000_000.0)
}

/// Processor time of a process and, if asked for, of its children: those that live and those that it has waited for.
fn processor_time(pid: u32, with_children: bool) -> Option<Duration> {
    let mut total = ticks(pid, 13..15)?;
    if with_children {
        let living = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
        let living = living.split_whitespace().filter_map(|child| child.parse().ok());
        total += living.filter_map(|child: u32| ticks(child, 13..15)).sum::<u64>();
        total += ticks(pid, 15..17)?;
    }
    // The kernel's unit in `/proc`, whatever it counts in itself.
    Some(Duration::from_millis(total * 10))
}

/// The sum of some fields of `/proc/<pid>/stat`, counted from 0: 13 to 14 are the process's own time in user and
/// system mode, 15 and 16 that of its ended children.
fn ticks(pid: u32, fields: std::ops::Range<usize>) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold spaces.
    let (_, rest) = stat.rsplit_once(") ")?;
    let values: Vec<_> = rest.split(' ').collect();
    let wanted = values.get(fields.start - 2..fields.end - 2)?;
    wanted.iter().map(|value| value.parse::<u64>().ok()).sum()
}
