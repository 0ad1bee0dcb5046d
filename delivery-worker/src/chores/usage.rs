//! Counts usage: each hour when it is over and all of its events are stored, and again while its deliveries go on.

use std::time::Duration;

use shared::process::nats::Nats;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::chores::retention::RetentionConfig;
use crate::intake::consume::streams::stored_through;
use crate::store::partitions;
use crate::store::usage::late::CountedThrough;
use crate::store::usage::{Turn, count_each, counted_through, due};

/// Pause between two looks for hours.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// How long a look may take. What was counted in it stays, also when it takes longer.
pub(crate) const LIMIT: Duration = Duration::from_mins(30);

/// An event comes into its stream this long after it was accepted, at the most, as the clocks of ingest-api and nats-server tell
/// it. What comes later makes its hour be counted again.
const LATE: Duration = Duration::from_mins(1);

/// Counts the hours that are due, unless another worker does.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn take_round(
    pool: &PgPool,
    nats: &Nats,
    retention: RetentionConfig,
    counted: &CountedThrough,
) -> Result<(), sqlx::Error> {
    // Before it counts too, which may fail or take long: that is when it falls behind.
    tell(pool).await?;
    // Looked at before the events are: what was accepted before then is stored by now.
    let now = partitions::now(pool).await?;
    let mut due_through = None;
    if let Some(stored_through) = stored_through(nats, now).await {
        let hours = due(pool, now - retention.retention, stored_through - LATE).await?;
        // Before they are counted, which may take long, and by whichever worker: an event that is stored meanwhile may miss it.
        due_through = hours.iter().max().map(|last| *last + time::Duration::HOUR);
        counted.set(counted_through(pool).await?.max(due_through));
        count_each(pool, &hours, Turn::Leave).await?;
    }
    counted.set(tell(pool).await?.max(due_through));
    Ok(())
}

/// Tells how far usage is counted, and returns it; `None` when no hour is.
async fn tell(pool: &PgPool) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    let through = counted_through(pool).await?;
    if let Some(through) = through {
        let behind = partitions::now(pool).await? - through;
        metrics::gauge!("penstock_usage_behind_seconds").set(behind.as_seconds_f64());
    }
    Ok(through)
}
