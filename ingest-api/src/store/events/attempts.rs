//! The deliveries of events, and their attempts.

use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId, OrgId};
use time::OffsetDateTime;

use super::EventRow;
use crate::domain::access::realm::Realm;
use crate::store::{Result, Store};

/// One event's delivery to one endpoint.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveryRow {
    pub event_id: EventId,
    pub accepted_at: OffsetDateTime,
    pub endpoint_id: EndpointId,
    pub status: DeliveryStatus,
    pub attempts: i32,
    pub last_outcome: Option<Outcome>,
    /// None while an attempt is in progress.
    pub next_attempt_at: Option<OffsetDateTime>,
    pub finished_at: Option<OffsetDateTime>,
    /// How many deliveries the event has.
    pub of_event: i64,
}

/// One attempt of a delivery.
#[derive(Debug)]
pub(crate) struct AttemptRow {
    pub endpoint_id: EndpointId,
    pub number: i32,
    pub started_at: OffsetDateTime,
    pub duration_ms: i32,
    pub outcome: Outcome,
    pub response_status: Option<i16>,
    pub response_body: Option<Vec<u8>>,
    pub error: Option<String>,
    /// How many attempts of the delivery are recorded.
    pub of_delivery: i64,
}

impl Store {
    /// The deliveries of events to the endpoints of a realm, by event and age of the endpoint, at most `limit` of each event.
    pub(crate) async fn list_deliveries(
        &self,
        realm: &Realm,
        events: &[EventRow],
        limit: i64,
    ) -> Result<Vec<DeliveryRow>> {
        sqlx::query_as!(
            DeliveryRow,
            r#"select d.event_id as "event_id: EventId", d.accepted_at, d.endpoint_id as "endpoint_id: EndpointId",
                      d.status as "status: DeliveryStatus", d.attempts, d.last_outcome as "last_outcome: Outcome",
                      d.finished_at,
                      case when d.lease_token is null then d.next_attempt_at end as next_attempt_at,
                      d.of_event as "of_event!"
               from unnest($2::uuid[], $3::timestamptz[]) as e (id, accepted_at)
               cross join lateral (
                   select *, count(*) over () as of_event from deliveries
                   where event_id = e.id and accepted_at = e.accepted_at and org_id = $1
                     and ($5::text is null or endpoint_id in (
                         select id from endpoints where org_id = $1 and coalesce(tenant, '') = $5
                     ))
                   order by endpoint_id limit $4
               ) d
               order by d.event_id, d.endpoint_id"#,
            realm.org_id.as_uuid(),
            &events.iter().map(|event| event.id.as_uuid()).collect::<Vec<_>>(),
            &events.iter().map(|event| event.accepted_at).collect::<Vec<_>>(),
            limit,
            realm.tenant(),
        )
        .fetch_all(&self.pool)
        .await
    }

    /// The newest attempts of some deliveries of one event, in order, at most `limit` of each.
    pub(crate) async fn list_attempts(
        &self,
        org_id: OrgId,
        event: &EventRow,
        deliveries: &[DeliveryRow],
        limit: i64,
    ) -> Result<Vec<AttemptRow>> {
        sqlx::query_as!(
            AttemptRow,
            r#"select a.endpoint_id as "endpoint_id!: EndpointId", a.number as "number!", a.started_at as "started_at!",
                      a.duration_ms as "duration_ms!", a.outcome as "outcome!: Outcome", a.response_status,
                      a.response_body, a.error, c.of_delivery as "of_delivery!"
               from unnest($4::uuid[]) as d (endpoint_id)
               cross join lateral (
                   select count(*) as of_delivery from attempt_history
                   where event_id = $2 and endpoint_id = d.endpoint_id and accepted_at = $3 and org_id = $1
               ) c
               cross join lateral (
                   select * from attempt_history
                   where event_id = $2 and endpoint_id = d.endpoint_id and accepted_at = $3 and org_id = $1
                   order by number desc limit $5
               ) a
               order by a.endpoint_id, a.number"#,
            org_id.as_uuid(),
            event.id.as_uuid(),
            event.accepted_at,
            &deliveries.iter().map(|delivery| delivery.endpoint_id.as_uuid()).collect::<Vec<_>>(),
            limit,
        )
        .fetch_all(&self.pool)
        .await
    }
}
