//! Starts processes again that have died, so that a `kill -9` does not end the stack.

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use anyhow::bail;

use crate::children::process::{Process, describe};
use crate::say::say;
use crate::stack::Stack;

/// How often the processes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A process that dies sooner than this after its start has not worked at all.
const EARLY: Duration = Duration::from_secs(1);

/// How many early deaths in a row are too many.
const EARLY_DEATHS: u32 = 5;

/// Early deaths in a row, by process.
type EarlyDeaths = HashMap<String, u32>;

/// Looks after all processes of a stack, for ever.
///
/// # Errors
/// When one cannot be started, or ends at once time after time.
pub(crate) async fn supervise(stack: &mut Stack) -> anyhow::Result<Infallible> {
    let mut early = EarlyDeaths::new();
    loop {
        if died(stack.nats_mut(), &mut early)? {
            stack.nats_mut().start().await?;
            announce(stack.nats());
        }
        if died(stack.postgres_mut(), &mut early)? {
            stack.postgres_mut().start().await?;
            announce(stack.postgres());
        }
        for service in stack.services_mut() {
            if died(service, &mut early)? {
                // It may have to wait for a server that died too, and that is looked after here.
                service.start_without_waiting()?;
                announce(service);
            }
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Whether a process ended since it was last asked; says so.
fn died(process: &mut Process, early: &mut EarlyDeaths) -> anyhow::Result<bool> {
    let pid = process.pid().unwrap_or_default();
    let Some(status) = process.try_wait()? else {
        return Ok(false);
    };
    let name = process.name();
    let deaths = early.entry(name.to_owned()).or_default();
    *deaths = if process.started().elapsed() < EARLY {
        *deaths + 1
    } else {
        0
    };
    let what = format!("{name} (pid {pid}) {}", describe(status));
    if *deaths >= EARLY_DEATHS {
        bail!(
            "{what}, {EARLY_DEATHS} times within a second of its start{}",
            process.tail()
        );
    }
    // The log of a killed process does not say why it ended.
    let tail = if status.code().is_some() {
        process.tail()
    } else {
        String::new()
    };
    say(&format!("{what}; starting it again{tail}"));
    Ok(true)
}

fn announce(process: &Process) {
    say(&format!(
        "{} runs again (pid {})",
        process.name(),
        process.pid().unwrap_or_default()
    ));
}
