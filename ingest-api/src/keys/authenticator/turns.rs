//! Turns for the two steps that only few requests may do at once: asking Postgres for a key, and argon2.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::keys::error::KeyError;

/// How long a request waits for its turn at Postgres or at argon2.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

const BUSY: KeyError = KeyError::Unavailable {
    reason: "too many API keys are being looked up or made",
    retry_after: 1,
};

/// Waits for a turn.
///
/// # Errors
/// When none comes in time.
pub(super) async fn turn(semaphore: &Semaphore) -> Result<SemaphorePermit<'_>, KeyError> {
    match timeout(TURN_PATIENCE, semaphore.acquire()).await {
        Ok(Ok(turn)) => Ok(turn),
        _ => Err(BUSY),
    }
}

/// Runs work with argon2 on the blocking pool. It takes 7 MiB and a core for a while, so the semaphore bounds how much
/// runs at once.
///
/// # Errors
/// When no turn comes in time, and those of the work.
pub(super) async fn with_argon2<T: Send + 'static>(
    semaphore: &Arc<Semaphore>,
    work: impl FnOnce() -> anyhow::Result<T> + Send + 'static,
) -> Result<T, KeyError> {
    let Ok(Ok(turn)) = timeout(TURN_PATIENCE, semaphore.clone().acquire_owned()).await else {
        return Err(BUSY);
    };
    let work = tokio::task::spawn_blocking(move || {
        let done = work();
        drop(turn);
        done
    });
    let done = work.await.map_err(anyhow::Error::from).flatten();
    done.map_err(KeyError::Internal)
}
