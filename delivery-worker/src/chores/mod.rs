//! Work that any worker does now and then, over and over.

pub(crate) mod notices;
pub(crate) mod recoveries;
pub(crate) mod deleted_endpoints;
pub(crate) mod unacknowledged;
pub(crate) mod retention;

use std::time::Duration;

use shared::db::limited::within;
use tokio_util::sync::CancellationToken;

/// Does `chore` at once and then at every `interval` until the stop. What fails because Postgres is away, or takes longer
/// than `limit`, is logged and left to the next time.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away: the worker is broken.
pub async fn repeat(
    name: &'static str,
    interval: Duration,
    limit: Duration,
    stop: CancellationToken,
    chore: impl AsyncFn() -> Result<(), sqlx::Error>,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match stop.run_until_cancelled(within(limit, chore())).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) => pass_over(name, error.into())?,
        }
    }
    Ok(())
}

/// Logs why a task that goes on did not get its work done this time.
///
/// # Errors
/// When Postgres has refused a statement for another reason than being away: the worker is broken.
pub fn pass_over(task: &'static str, error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if shared::db::is_transient(&error) => {
            tracing::warn!(task, %error, "interrupted, trying again later");
        }
        Ok(error) => return Err(anyhow::Error::from(error).context(task)),
        // NATS is away, as the connection's own log says.
        Err(error) => tracing::debug!(
            task,
            error = format!("{error:#}"),
            "interrupted, trying again later"
        ),
    }
    Ok(())
}
