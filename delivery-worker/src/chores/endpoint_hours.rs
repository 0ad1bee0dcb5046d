//! Writes what this worker has counted of attempts, by endpoint and hour. An attempt counts in the hour in which it is written,
//! by Postgres's clock: usually the minute after it has ended.
//!
//! What a worker has counted and not written is lost when it dies. A write whose answer is lost counts twice.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::db::limited::within;
use shared::domain::id::EndpointId;
use sqlx::PgPool;

use crate::endpoints::attempt_counts::{AttemptCounts, Counted};

/// Pause between two looks whether something is counted.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// The least time between two rounds in which something is written.
const PAUSE: Duration = Duration::from_mins(1);

/// Endpoints in one statement.
const STEP: usize = 1_000;

/// Statements in a round. Where more endpoints are in use, each has its turn after some rounds.
const STEPS: usize = 20;

/// How long the last ones may take at the end.
const REST_WITHIN: Duration = Duration::from_secs(3);

/// The rounds.
#[derive(Debug, Default)]
pub(crate) struct Rounds {
    /// When the last one began that wrote something.
    begun_at: Mutex<Option<Instant>>,
}

impl Rounds {
    /// Writes what is counted, unless there was a round a short time ago.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub(crate) async fn take(&self, pool: &PgPool, counts: &AttemptCounts) -> Result<(), sqlx::Error> {
        let now = Instant::now();
        let begun_at = *self.begun_at();
        let is_early = begun_at.is_some_and(|begun_at| now.saturating_duration_since(begun_at) < PAUSE);
        if is_early || counts.is_empty() {
            return Ok(());
        }
        *self.begun_at() = Some(now);
        for _ in 0..STEPS {
            if write_some(pool, counts).await? < STEP {
                break;
            }
        }
        Ok(())
    }

    fn begun_at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.begun_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does `work`, after which no attempt is counted any more, and writes what is left.
///
/// # Errors
/// Those of `work`.
pub(crate) async fn write_rest_after(
    work: impl Future<Output = anyhow::Result<()>>,
    pool: PgPool,
    counts: Arc<AttemptCounts>,
) -> anyhow::Result<()> {
    work.await?;
    let writing = async {
        while !counts.is_empty() {
            write_some(&pool, &counts).await?;
        }
        Ok(())
    };
    if let Err(error) = within(REST_WITHIN, writing).await {
        tracing::warn!(%error, "cannot write the last counts of attempts; the figures of endpoints lack them");
    }
    Ok(())
}

/// Writes the counts of some endpoints, and returns of how many.
async fn write_some(pool: &PgPool, counts: &AttemptCounts) -> Result<usize, sqlx::Error> {
    let some = counts.due(STEP);
    if some.is_empty() {
        return Ok(0);
    }
    match write(pool, &some).await {
        Ok(()) => {
            counts.forget(some.len());
            Ok(some.len())
        }
        // An endpoint was removed with its organisation at this moment. The next time it is not found.
        Err(sqlx::Error::Database(error)) if error.is_foreign_key_violation() => Ok(0),
        Err(error) => Err(error),
    }
}

/// Adds counts to those of the hour. Deleted endpoints are left out.
async fn write(pool: &PgPool, some: &[(EndpointId, Counted)]) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into endpoint_hours as h (endpoint_id, org_id, hour, succeeded, failed, durations)
         select e.id, e.org_id, date_trunc('hour', now(), 'UTC'), c.succeeded, c.failed, c.durations::integer[]
         from (
             select * from unnest($1::uuid[], $2::uuid[], $3::bigint[], $4::bigint[], $5::text[])
                 as c (endpoint_id, org_id, succeeded, failed, durations)
             limit cardinality($1)
         ) c
         join endpoints e on e.id = c.endpoint_id and e.org_id = c.org_id and e.deleted_at is null
         order by e.id
         on conflict (endpoint_id, hour) do update
         set succeeded = h.succeeded + excluded.succeeded, failed = h.failed + excluded.failed,
             durations = add_each(h.durations, excluded.durations)",
        &some.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>(),
        &some
            .iter()
            .map(|(_, counted)| counted.org_id.as_uuid())
            .collect::<Vec<_>>(),
        &some.iter().map(|(_, counted)| counted.succeeded).collect::<Vec<_>>(),
        &some.iter().map(|(_, counted)| counted.failed).collect::<Vec<_>>(),
        &some
            .iter()
            .map(|(_, counted)| as_array(&counted.durations))
            .collect::<Vec<_>>(),
    )
    .execute(pool)
    .await?;
    Ok(())
}

/// Numbers as Postgres writes an array of them, without the zeros at the end.
fn as_array(numbers: &[i32]) -> String {
    let end = numbers.iter().rposition(|number| *number != 0);
    let numbers = &numbers[..end.map_or(0, |last| last + 1)];
    let texts: Vec<_> = numbers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", texts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_an_array_up_to_the_last_that_is_not_zero() {
        assert_eq!(as_array(&[0, 0, 7, 0, 1, 0, 0]), "{0,0,7,0,1}");
        assert_eq!(as_array(&[0, 0]), "{}");
    }
}
