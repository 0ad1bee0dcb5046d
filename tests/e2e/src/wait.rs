//! Waiting for what a test needs, and for nothing longer.

use std::time::{Duration, Instant};

/// How long a test waits for anything. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// The pause between two looks at first.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);

/// The pause between two looks at what takes long: a look costs a processor that others wait for.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// Looks again and again until `look` finds what it looks for, and returns that.
///
/// # Panics
/// After [`DEADLINE`], saying what was awaited and what `look` saw last.
pub async fn until<T>(awaited: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    until_within(DEADLINE, awaited, look).await
}

/// The same with a deadline of its own.
///
/// # Panics
/// After `deadline`.
pub async fn until_within<T>(
    deadline: Duration,
    awaited: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let start = Instant::now();
    loop {
        let seen = match look().await {
            Ok(found) => return found,
            Err(seen) => seen,
        };
        assert!(
            start.elapsed() < deadline,
            "waited {deadline:?} for {awaited}; the last look saw {seen}"
        );
        pause(start).await;
    }
}

/// Waits until nothing is left of what `left` counts; it also says how things stand, for a failing test.
///
/// # Panics
/// When for `patience` no less was left than ever before, saying what was awaited and what was seen last.
pub(crate) async fn until_none_left(
    patience: Duration,
    awaited: &str,
    mut left: impl AsyncFnMut() -> Result<(u64, String), String>,
) {
    let (mut least, mut moved) = (u64::MAX, Instant::now());
    loop {
        let seen = left().await;
        match seen {
            Ok((0, _)) => return,
            Ok((count, _)) if count < least => (least, moved) = (count, Instant::now()),
            _ => {}
        }
        assert!(
            moved.elapsed() < patience,
            "waited {patience:?} for {awaited} without progress; the last look saw {seen:?}"
        );
        pause(moved).await;
    }
}

/// Waits a small part of the time for which the awaited has been waited for.
async fn pause(start: Instant) {
    let pause = start.elapsed() / 16;
    tokio::time::sleep(pause.clamp(SHORTEST_PAUSE, LONGEST_PAUSE)).await;
}
