//! Waiting for what a test needs, and for nothing longer.

use std::time::{Duration, Instant};

/// How long a test waits for anything. Only a failing test waits that long.
pub const DEADLINE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(10);

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
        tokio::time::sleep(POLL).await;
    }
}
