//! One endpoint's deliveries, by status.

mod pages;
pub(super) mod dead;
pub(super) mod recoveries;
pub(super) mod replay;

use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId, OrgId};
use shared::domain::name::Tenant;
use time::OffsetDateTime;

use self::pages::{end_of_dead, end_of_pending, list_dead, list_delivered, list_pending};
use super::events::{ALWAYS, end_of_events};
use super::{Result, Store};
use crate::domain::cursor::Cursor;

/// Rows are counted up to this many.
pub(crate) const MAX_COUNTED: i64 = 10_000;

/// Which deliveries of an endpoint a page holds.
#[derive(Debug)]
pub(crate) struct DeliveryFilter {
    /// The organisation's.
    pub org_id: OrgId,
    /// The endpoint's tenant, if it gets only that one's events.
    pub tenant: Option<Tenant>,
    /// Those to this endpoint.
    pub endpoint_id: EndpointId,
    /// In this status.
    pub status: DeliveryStatus,
    /// Whose last attempt ended like this.
    pub outcome: Option<Outcome>,
    /// Beyond the end of the page before.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: i64,
}

impl DeliveryFilter {
    fn tenant(&self) -> Option<&str> {
        self.tenant.as_ref().map(Tenant::as_str)
    }
}

/// A delivery with what its endpoint's owner knows it by.
#[derive(Debug)]
pub(crate) struct EndpointDeliveryRow {
    pub event_id: EventId,
    pub event_type: String,
    pub accepted_at: OffsetDateTime,
    pub status: DeliveryStatus,
    pub attempts: i32,
    pub last_outcome: Option<Outcome>,
    /// None while an attempt is in progress.
    pub next_attempt_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
    /// The list is ordered by this time.
    pub position: OffsetDateTime,
}

/// How many deliveries have one last outcome.
#[derive(Debug)]
pub(crate) struct OutcomeCount {
    pub status: DeliveryStatus,
    /// None when there was no attempt.
    pub last_outcome: Option<Outcome>,
    pub count: i64,
}

impl Store {
    /// A page of an endpoint's deliveries, and where the next one begins. Pending ones come in the order in which they
    /// are due, the others newest first.
    pub(crate) async fn list_endpoint_deliveries(
        &self,
        filter: &DeliveryFilter,
    ) -> Result<(Vec<EndpointDeliveryRow>, Option<Cursor>)> {
        let mut snapshot = self.snapshot().await?;
        let mut rows = match filter.status {
            DeliveryStatus::Pending => list_pending(&mut snapshot, filter).await?,
            DeliveryStatus::Dead => list_dead(&mut snapshot, filter).await?,
            DeliveryStatus::Delivered => list_delivered(&mut snapshot, filter).await?,
        };
        let limit = usize::try_from(filter.limit).unwrap_or(usize::MAX);
        if rows.len() > limit {
            rows.truncate(limit);
            let next = rows.last().map(|last| Cursor {
                at: last.position,
                id: last.event_id.as_uuid(),
            });
            return Ok((rows, next));
        }
        let next = match (filter.status, filter.outcome) {
            (DeliveryStatus::Delivered, _) => {
                let after = filter.after.unwrap_or(Cursor::NEWEST);
                end_of_events(&mut snapshot, filter.org_id, filter.tenant(), ALWAYS, after).await?
            }
            (DeliveryStatus::Pending, Some(_)) => end_of_pending(&mut snapshot, filter).await?,
            (DeliveryStatus::Dead, Some(_)) => end_of_dead(&mut snapshot, filter).await?,
            (_, None) => None,
        };
        Ok((rows, next))
    }

    /// Counts an endpoint's dead and pending deliveries by their last outcomes: up to [`MAX_COUNTED`] and one of each
    /// status.
    pub(crate) async fn count_outcomes(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
    ) -> Result<Vec<OutcomeCount>> {
        sqlx::query_as!(
            OutcomeCount,
            r#"
            select status as "status!: DeliveryStatus", last_outcome as "last_outcome: Outcome", count(*) as "count!"
            from (
                (select status, last_outcome from deliveries
                 where org_id = $1 and endpoint_id = $2 and status = 'dead' limit $3)
                union all
                (select status, last_outcome from (
                    select status, last_outcome from deliveries
                    where org_id = $1 and endpoint_id = $2 and status = 'pending' and not pull
                      and ordering_key is null
                    union all
                    select status, last_outcome from deliveries
                    where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull
                    union all
                    select status, last_outcome from deliveries
                    where org_id = $1 and endpoint_id = $2 and status = 'pending' and ordering_key is not null
                 ) pending limit $3)
            ) counted
            group by status, last_outcome
            order by status, count(*) desc, last_outcome
            "#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            MAX_COUNTED + 1,
        )
        .fetch_all(&self.pool)
        .await
    }
}
