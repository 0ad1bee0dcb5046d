//! What is new of a realm. Each statement looks at a bounded number of rows.

use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId};
use time::OffsetDateTime;

use super::{EventPlace, MAX_COUNTED, Result, Store};
use crate::domain::realm::Realm;

/// An event, without its payload.
#[derive(Debug)]
pub(crate) struct TailedEvent {
    pub id: EventId,
    pub accepted_at: OffsetDateTime,
    pub event_type: String,
    pub tenant: Option<String>,
}

/// A delivery with its last attempt.
#[derive(Debug)]
pub(crate) struct TailedDelivery {
    pub event_id: EventId,
    pub endpoint_id: EndpointId,
    pub status: DeliveryStatus,
    /// How many have ended.
    pub attempts: i32,
    pub last_outcome: Option<Outcome>,
    pub response_status: Option<i16>,
    pub started_at: Option<OffsetDateTime>,
    pub duration_ms: Option<i32>,
}

impl Store {
    /// The newest events that were accepted after a time, oldest first.
    pub(crate) async fn tail_events(
        &self,
        realm: &Realm,
        after: OffsetDateTime,
        most: usize,
    ) -> Result<Vec<TailedEvent>> {
        // Two branches, each with an index of its own.
        let rows = sqlx::query_as!(
            TailedEvent,
            r#"select id as "id!: EventId", accepted_at as "accepted_at!", type as "event_type!", tenant
               from (
                   (select id, accepted_at, type, tenant from events
                    where $2::text is null and org_id = $1 and accepted_at > $3
                    order by accepted_at desc, id desc limit $4)
                   union all
                   (select id, accepted_at, type, tenant from events
                    where org_id = $1 and tenant = $2 and accepted_at > $3
                    order by accepted_at desc, id desc limit $4)
               ) found
               order by accepted_at, id"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            after,
            i64::try_from(most).unwrap_or(i64::MAX),
        );
        let mut snapshot = self.snapshot().await?;
        rows.fetch_all(&mut *snapshot).await
    }

    /// How many events were accepted between two times, both left out; up to one more than are counted.
    pub(crate) async fn count_events(
        &self,
        realm: &Realm,
        after: OffsetDateTime,
        before: OffsetDateTime,
    ) -> Result<i64> {
        let count = sqlx::query_scalar!(
            r#"select count(*) as "count!" from (
                   (select 1 from events
                    where $2::text is null and org_id = $1 and accepted_at > $3 and accepted_at < $4 limit $5)
                   union all
                   (select 1 from events
                    where org_id = $1 and tenant = $2 and accepted_at > $3 and accepted_at < $4 limit $5)
               ) counted"#,
            realm.org_id.as_uuid(),
            realm.tenant(),
            after,
            before,
            MAX_COUNTED + 1,
        );
        let mut snapshot = self.snapshot().await?;
        count.fetch_one(&mut *snapshot).await
    }

    /// The deliveries of some events to the endpoints of a realm, at most `limit` of each event.
    pub(crate) async fn tail_deliveries(
        &self,
        realm: &Realm,
        events: &[EventPlace],
        limit: i64,
    ) -> Result<Vec<TailedDelivery>> {
        let rows = sqlx::query_as!(
            TailedDelivery,
            r#"select d.event_id as "event_id: EventId", d.endpoint_id as "endpoint_id: EndpointId",
                      d.status as "status: DeliveryStatus", d.attempts, d.last_outcome as "last_outcome: Outcome",
                      case when d.last_attempt = d.attempts then d.last_response_status end as response_status,
                      case when d.last_attempt = d.attempts then d.last_started_at end as started_at,
                      case when d.last_attempt = d.attempts then d.last_duration_ms end as duration_ms
               from unnest($2::uuid[], $3::timestamptz[]) as e (id, accepted_at)
               cross join lateral (
                   select * from deliveries
                   where event_id = e.id and accepted_at = e.accepted_at and org_id = $1
                     and ($5::text is null or endpoint_id in (
                         select id from endpoints where org_id = $1 and tenant = $5
                     ))
                   order by endpoint_id limit $4
               ) d"#,
            realm.org_id.as_uuid(),
            &events.iter().map(|event| event.id.as_uuid()).collect::<Vec<_>>(),
            &events.iter().map(|event| event.accepted_at).collect::<Vec<_>>(),
            limit,
            realm.tenant(),
        );
        rows.fetch_all(&self.pool).await
    }
}
