//! What comes into an hour that was counted: an event that was accepted long before, or a delivery that is made again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering};

use shared::domain::clock::UnixMicros;
use sqlx::PgExecutor;
use time::OffsetDateTime;

const HOUR_MICROS: i64 = 3_600_000_000;

/// The end of the last hour that was counted, or is to be counted now, as this worker knows. Until it has looked, any hour may be
/// one.
#[derive(Debug)]
pub(crate) struct CountedThrough(AtomicI64);

impl Default for CountedThrough {
    fn default() -> Self {
        Self(AtomicI64::new(i64::MAX))
    }
}

impl CountedThrough {
    /// Notes it; `None` when no hour was.
    pub(crate) fn set(&self, through: Option<OffsetDateTime>) {
        let micros = through.map_or(i64::MIN, |through| UnixMicros::from(through).get());
        self.0.store(micros, Ordering::Relaxed);
    }

    /// Has the hours of events counted again that are stored after their hour was counted. While all come in time, this is a
    /// comparison.
    ///
    /// # Errors
    /// When Postgres does not answer.
    pub(crate) async fn note(
        &self,
        database: impl PgExecutor<'_>,
        times: impl Iterator<Item = UnixMicros>,
    ) -> Result<(), sqlx::Error> {
        let hours = self.hours_of(times);
        if hours.is_empty() {
            return Ok(());
        }
        recount(database, &hours).await
    }

    /// The hours of these times that were counted already.
    fn hours_of(&self, times: impl Iterator<Item = UnixMicros>) -> Vec<OffsetDateTime> {
        let through = self.0.load(Ordering::Relaxed);
        let late = times.map(UnixMicros::get).filter(|at| *at < through);
        let hours: BTreeSet<_> = late
            .map(|at| at.saturating_sub(at.rem_euclid(HOUR_MICROS)))
            .collect();
        let hours = hours.into_iter();
        hours.map(|hour| UnixMicros::new(hour).to_date_time()).collect()
    }
}

/// Has hours counted again that were counted before.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn recount(
    database: impl PgExecutor<'_>,
    hours: &[OffsetDateTime],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "insert into usage_recounts (hour) select unnest($1::timestamptz[])",
        hours
    )
    .execute(database)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_hours_that_were_counted_are_told_and_each_once() {
        let at = UnixMicros::new;
        let through = CountedThrough::default();
        let times = || {
            [1, HOUR_MICROS - 1, 3 * HOUR_MICROS, 5 * HOUR_MICROS]
                .map(at)
                .into_iter()
        };
        let all = [0, 3 * HOUR_MICROS, 5 * HOUR_MICROS].map(|hour| at(hour).to_date_time());
        assert_eq!(through.hours_of(times()), all, "any may have been counted");
        through.set(None);
        assert!(through.hours_of(times()).is_empty(), "nothing was counted");
        through.set(Some(at(4 * HOUR_MICROS).to_date_time()));
        let hours = [0, 3 * HOUR_MICROS].map(|hour| at(hour).to_date_time());
        assert_eq!(through.hours_of(times()), hours);
    }
}
