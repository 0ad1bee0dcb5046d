//! What went on in the last hour or day, for charts.

use std::collections::HashMap;
use std::time::Duration;

use serde::Serialize;
use shared::domain::clock::UnixMicros;
use shared::words;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::http::error::ApiError;
use crate::store::{COUNTED_OF_EACH, CountedRow, OutcomeRow, Stretches};

words! {
    /// How far back figures go.
    pub(crate) enum Period("period") {
        /// An hour, in minutes.
        Hour = "hour",
        /// A day, in quarters of an hour.
        Day = "day",
    }
}

impl Period {
    /// The seconds of one stretch, and how many stretches there are.
    fn parts(self) -> (i64, i64) {
        match self {
            Self::Hour => (60, 60),
            Self::Day => (900, 96),
        }
    }

    /// The stretches up to the one that holds `now`.
    fn stretches(self, now: UnixMicros) -> Stretches {
        let (seconds, count) = self.parts();
        let begun = now.get().div_euclid(seconds * 1_000_000) * seconds;
        let at = |second: i64| UnixMicros::new(second * 1_000_000).to_date_time();
        Stretches {
            from: at(begun - (count - 1) * seconds),
            last: at(begun),
            length: Duration::from_secs(seconds.unsigned_abs()),
        }
    }
}

/// What went on, in stretches of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct History {
    /// How long each stretch is.
    stretch_seconds: u64,
    /// The stretches, oldest first. The last one is not over.
    stretches: Vec<Stretch>,
}

/// A stretch of time.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stretch {
    /// When it begins.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    from: OffsetDateTime,
    /// Events accepted in it.
    accepted: i64,
    /// Whether that is estimated from the time that the first 500 took.
    estimated: bool,
    /// Deliveries of its first 20 events; of each, ten at most are looked at.
    deliveries: i64,
    /// How many of these are delivered.
    delivered: i64,
    /// How many of these get no further attempt.
    dead: i64,
    /// From acceptance to delivery, in milliseconds: 95 of 100 of these took no longer. Null when none is delivered.
    latency_p95_ms: Option<f64>,
}

/// Reads what went on.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn read(app: &App, realm: &Realm, period: Period) -> Result<History, ApiError> {
    let now = UnixMicros::now();
    let stretches = period.stretches(now);
    let counted = app.store.count_in_stretches(realm, stretches).await?;
    let outcomes = app.store.outcomes_in_stretches(realm, stretches).await?;
    let mut outcomes: HashMap<_, _> = outcomes.into_iter().map(|row| (row.begins, row)).collect();
    let now = now.to_date_time();
    let all = counted.into_iter().map(|row| {
        let outcome = outcomes.remove(&row.begins);
        Stretch::new(&row, outcome.as_ref(), stretches.length, now)
    });
    Ok(History {
        stretch_seconds: stretches.length.as_secs(),
        stretches: all.collect(),
    })
}

impl Stretch {
    fn new(row: &CountedRow, outcome: Option<&OutcomeRow>, length: Duration, now: OffsetDateTime) -> Self {
        let estimate = row
            .last
            .filter(|_| row.events >= COUNTED_OF_EACH)
            .map(|last| estimate(row, last, length, now));
        Self {
            from: row.begins,
            accepted: estimate.unwrap_or(row.events),
            estimated: estimate.is_some(),
            deliveries: outcome.map_or(0, |outcome| outcome.deliveries),
            delivered: outcome.map_or(0, |outcome| outcome.delivered),
            dead: outcome.map_or(0, |outcome| outcome.dead),
            latency_p95_ms: outcome.and_then(|outcome| outcome.p95),
        }
    }
}

/// How many events a stretch has, or has had up to now, when they go on to come as fast as the first ones did.
fn estimate(row: &CountedRow, last: OffsetDateTime, length: Duration, now: OffsetDateTime) -> i64 {
    let end = (row.begins + length).min(now.max(last));
    let micros = |from: OffsetDateTime, to: OffsetDateTime| (to - from).whole_microseconds().max(1);
    let all = i128::from(row.events) * micros(row.begins, end) / micros(row.begins, last);
    i64::try_from(all).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn the_last_stretch_holds_the_present() {
        let now = UnixMicros::from(datetime!(2026-01-02 03:04:05 UTC));
        let hour = Period::Hour.stretches(now);
        assert_eq!(hour.last, datetime!(2026-01-02 03:04 UTC));
        assert_eq!(hour.from, datetime!(2026-01-02 02:05 UTC));
        let day = Period::Day.stretches(now);
        assert_eq!(day.last, datetime!(2026-01-02 03:00 UTC));
        assert_eq!(day.from, datetime!(2026-01-01 03:15 UTC));
    }

    #[test]
    fn a_stretch_with_more_events_than_are_counted_is_estimated() {
        let (begins, length) = (datetime!(2026-01-02 03:00 UTC), Duration::from_secs(60));
        let row = |events, last| CountedRow {
            begins,
            events,
            last: Some(last),
        };
        let late = datetime!(2026-01-02 04:00 UTC);
        let of = |row: CountedRow, now| {
            let stretch = Stretch::new(&row, None, length, now);
            (stretch.accepted, stretch.estimated)
        };
        let after_six = datetime!(2026-01-02 03:00:06 UTC);
        assert_eq!(of(row(499, after_six), late), (499, false));
        assert_eq!(of(row(500, after_six), late), (5_000, true));
        let present = datetime!(2026-01-02 03:00:12 UTC);
        assert_eq!(of(row(500, after_six), present), (1_000, true));
        assert_eq!(of(row(500, begins), late).0, 500 * 60_000_000);
    }
}
