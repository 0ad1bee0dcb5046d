//! Events, their deliveries and their attempts, as workers have stored them.

pub(super) mod rows;
mod attempts;
pub(super) mod places;

use std::ops::Range;

use shared::db::limited::Transaction;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, OrgId};
use shared::domain::name::Tenant;
use time::OffsetDateTime;

pub(crate) use self::attempts::{AttemptRow, DeliveryRow};
pub(crate) use self::rows::{EventRow, PulledRow};
use super::{Result, Store};
use crate::domain::access::realm::Realm;
use crate::domain::cursor::Cursor;

/// All times at which an event may have been accepted.
pub(super) const ALWAYS: Range<OffsetDateTime> = OffsetDateTime::UNIX_EPOCH..Cursor::NEWEST.at;

/// Which events a page holds.
#[derive(Debug)]
pub(crate) struct EventFilter<'a> {
    /// Whose.
    pub realm: Realm,
    /// Of this type.
    pub event_type: Option<&'a str>,
    /// Accepted at this time or later.
    pub from: Option<OffsetDateTime>,
    /// Accepted before this time.
    pub to: Option<OffsetDateTime>,
    /// With a delivery in this status.
    pub status: Option<DeliveryStatus>,
    /// With a delivery to this endpoint.
    pub endpoint_id: Option<EndpointId>,
    /// Whoever asks sees only deliveries to the endpoints of this tenant.
    pub seen_of: Option<Tenant>,
    /// Older than the end of the page before.
    pub after: Option<Cursor>,
    /// At most this many.
    pub limit: i64,
}

impl EventFilter<'_> {
    // Bounds that are always there: a condition that may be null would hide them from the planner.
    fn times(&self) -> Range<OffsetDateTime> {
        self.from.unwrap_or(ALWAYS.start)..self.to.unwrap_or(ALWAYS.end)
    }

    /// Whether it may skip events within its times.
    fn leaves_out(&self) -> bool {
        self.event_type.is_some() || self.status.is_some() || self.endpoint_id.is_some()
    }
}

impl Store {
    /// A page of events, newest first, and where the next page begins. The query looks at 10 000 events at most; the
    /// next page begins after them, however few of them matched.
    pub(crate) async fn list_events(
        &self,
        filter: &EventFilter<'_>,
    ) -> Result<(Vec<EventRow>, Option<Cursor>)> {
        let (times, after) = (filter.times(), filter.after.unwrap_or(Cursor::NEWEST));
        let mut snapshot = self.snapshot().await?;
        let (events, more) = rows::page(&mut snapshot, filter, &times, after).await?;
        let next = match events.last() {
            Some(last) if more => Some(Cursor {
                at: last.accepted_at,
                id: last.id.as_uuid(),
            }),
            _ if filter.leaves_out() => {
                end_of_events(
                    &mut snapshot,
                    filter.realm.org_id,
                    filter.realm.tenant(),
                    times,
                    after,
                )
                .await?
            }
            _ => None,
        };
        Ok((events, next))
    }
}

/// The last of the 10 000 events, or of its tenant's, older than `before` that a page looks at. None when it looks at all of them.
pub(super) async fn end_of_events(
    snapshot: &mut Transaction,
    org_id: OrgId,
    tenant: Option<&str>,
    times: Range<OffsetDateTime>,
    before: Cursor,
) -> Result<Option<Cursor>> {
    sqlx::query_as!(
        Cursor,
        r#"(select accepted_at as "at!", id as "id!" from events
            where $6::text is null and org_id = $1 and accepted_at >= $2 and accepted_at < $3
              and accepted_at <= $4 and (accepted_at, id) < ($4, $5::uuid)
            order by accepted_at desc, id desc offset 9999 limit 1)
           union all
           (select accepted_at, id from events
            where org_id = $1 and tenant = $6 and accepted_at >= $2 and accepted_at < $3
              and accepted_at <= $4 and (accepted_at, id) < ($4, $5::uuid)
            order by accepted_at desc, id desc offset 9999 limit 1)"#,
        org_id.as_uuid(),
        times.start,
        times.end,
        before.at,
        before.id,
        tenant,
    )
    .fetch_optional(&mut **snapshot)
    .await
}
