//! What came of an endpoint's attempts, hour by hour, as workers have written it.

use shared::domain::id::{EndpointId, OrgId};
use time::OffsetDateTime;

use crate::store::{Result, Store};

/// What came of an endpoint's attempts in an hour.
#[derive(Debug)]
pub(crate) struct HourRow {
    /// When it begins.
    pub hour: OffsetDateTime,
    pub succeeded: i64,
    pub failed: i64,
    /// How many took how long, by [steps](shared::domain::durations).
    pub durations: Vec<i32>,
}

impl Store {
    /// The last 24 hours of an endpoint, oldest first. The last one is not over.
    pub(crate) async fn endpoint_hours(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
    ) -> Result<Vec<HourRow>> {
        sqlx::query_as!(
            HourRow,
            r#"select w.hour as "hour!", coalesce(h.succeeded, 0) as "succeeded!", coalesce(h.failed, 0) as "failed!",
                      coalesce(h.durations, '{}') as "durations!"
               from generate_series(date_trunc('hour', now(), 'UTC') - interval '23 hours',
                                    date_trunc('hour', now(), 'UTC'), interval '1 hour') as w (hour)
               left join endpoint_hours h on h.endpoint_id = $2 and h.org_id = $1 and h.hour = w.hour
               order by w.hour"#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
        )
        .fetch_all(&self.pool)
        .await
    }
}
