//! Work that any worker does now and then, over and over.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// Does `chore` at once and then at every `interval` until the stop. What fails because Postgres is away is logged and
/// left to the next time.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away: the worker is broken.
pub async fn repeat(
    name: &'static str,
    interval: Duration,
    stop: CancellationToken,
    chore: impl AsyncFn() -> Result<(), sqlx::Error>,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match stop.run_until_cancelled(chore()).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) if shared::db::is_transient(&error) => {
                tracing::warn!(chore = name, %error, "interrupted, trying again later");
            }
            Some(Err(error)) => return Err(anyhow::Error::from(error).context(name)),
        }
    }
    Ok(())
}
