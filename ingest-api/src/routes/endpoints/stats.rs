//! `GET /v1/endpoints/{id}/stats`: what came of an endpoint's attempts in the last 24 hours.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::domain::durations::{STEPS, percentile};
use shared::domain::id::EndpointId;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::{KeyRefusals, NoEndpoint};
use crate::store::HourRow;

/// What came of an endpoint's attempts.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptStats {
    /// The hours together.
    last_24_hours: AttemptSum,
    /// The last 24 hours (UTC), oldest first. The last one is not over.
    hours: Vec<AttemptHour>,
}

/// What came of attempts in all of the hours.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptSum {
    /// All attempts.
    attempts: u64,
    /// Those that a receiver answered with success.
    succeeded: u64,
    /// The others.
    failed: u64,
    /// Which part of them succeeded, from 0 to 1; null when there were none.
    success_ratio: Option<f64>,
    /// About how many milliseconds half of them did not exceed, whatever came of them; null when there were none.
    p50_ms: Option<u64>,
    /// The same of 95 out of 100.
    p95_ms: Option<u64>,
}

/// What came of attempts in an hour.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptHour {
    /// When it begins.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    hour: OffsetDateTime,
    /// Attempts that a receiver answered with success.
    succeeded: u64,
    /// The others.
    failed: u64,
    /// About how many milliseconds half of them did not exceed, whatever came of them; null when there were none.
    p50_ms: Option<u64>,
    /// The same of 95 out of 100.
    p95_ms: Option<u64>,
}

/// Shows what came of an endpoint's attempts in the last 24 hours.
///
/// Workers write what they have counted once a minute, so a figure is up to a minute late, and an attempt counts in the hour in
/// which it is written. What a worker that dies has not written is missing. Deliveries that are fetched have no attempts here.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}/stats",
    operation_id = "show_endpoint_stats",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses((status = 200, description = "The figures.", body = AttemptStats), KeyRefusals, NoEndpoint),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
) -> Result<Json<AttemptStats>, ApiError> {
    let found = app.store.find_brief_endpoint(&realm, endpoint_id).await?;
    found.ok_or(ApiError::NotFound)?;
    let rows = app.store.endpoint_hours(realm.org_id, endpoint_id).await?;
    let hours: Vec<_> = rows.iter().map(Hour::from).collect();
    let mut sum = Counts::default();
    for hour in &hours {
        sum.add(&hour.counts);
    }
    Ok(Json(AttemptStats {
        last_24_hours: sum.into(),
        hours: hours.into_iter().map(Into::into).collect(),
    }))
}

/// An hour's counts.
struct Hour {
    begins: OffsetDateTime,
    counts: Counts,
}

/// What came of some attempts.
#[derive(Debug, Default)]
struct Counts {
    succeeded: u64,
    failed: u64,
    durations: [u64; STEPS],
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        for (own, others) in self.durations.iter_mut().zip(other.durations) {
            *own += others;
        }
    }

    /// To the millionth below, so that it is 1 only when all succeeded.
    fn success_ratio(&self) -> Option<f64> {
        let millionths = self
            .succeeded
            .saturating_mul(1_000_000)
            .checked_div(self.succeeded + self.failed)?;
        let millionths = u32::try_from(millionths).ok()?;
        Some(f64::from(millionths) / 1_000_000.0)
    }
}

impl From<&HourRow> for Hour {
    fn from(row: &HourRow) -> Self {
        let mut durations = [0; STEPS];
        for (own, counted) in durations.iter_mut().zip(&row.durations) {
            *own = u64::from(counted.unsigned_abs());
        }
        Self {
            begins: row.hour,
            counts: Counts {
                succeeded: row.succeeded.unsigned_abs(),
                failed: row.failed.unsigned_abs(),
                durations,
            },
        }
    }
}

impl From<Counts> for AttemptSum {
    fn from(counts: Counts) -> Self {
        Self {
            attempts: counts.succeeded + counts.failed,
            succeeded: counts.succeeded,
            failed: counts.failed,
            success_ratio: counts.success_ratio(),
            p50_ms: percentile(&counts.durations, 50),
            p95_ms: percentile(&counts.durations, 95),
        }
    }
}

impl From<Hour> for AttemptHour {
    fn from(Hour { begins, counts }: Hour) -> Self {
        Self {
            hour: begins,
            succeeded: counts.succeeded,
            failed: counts.failed,
            p50_ms: percentile(&counts.durations, 50),
            p95_ms: percentile(&counts.durations, 95),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_the_ratio_of_success_only_where_nothing_failed() {
        let of = |succeeded, failed| {
            let durations = [0; STEPS];
            let counts = Counts {
                succeeded,
                failed,
                durations,
            };
            counts.success_ratio()
        };
        assert_eq!(of(0, 0), None);
        assert_eq!(
            (of(3, 0), of(0, 3), of(993, 7)),
            (Some(1.0), Some(0.0), Some(0.993))
        );
        assert_eq!(of(1 << 40, 1), Some(0.999_999));
    }
}
