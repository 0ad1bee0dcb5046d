//! What is stored of one event.

use sqlx::PgConnection;
use time::{Duration, OffsetDateTime};

use crate::domain::clock::UnixMicros;
use crate::domain::delivery::{DeliveryStatus, Outcome};
use crate::domain::endpoint::{EndpointKind, EndpointStatus};
use crate::domain::event_type::EventTypePattern;
use crate::domain::id::{EndpointId, EventId, OrgId};

/// Where an event is stored.
#[derive(Debug)]
pub(super) struct Place {
    pub org_id: OrgId,
    pub id: EventId,
    pub accepted_at: OffsetDateTime,
}

/// An event, and the name of its organisation.
#[derive(Debug)]
pub(super) struct EventRow {
    pub organization: String,
    pub event_type: String,
    pub accepted_at: OffsetDateTime,
    pub stored_at: OffsetDateTime,
    pub expunged_at: Option<OffsetDateTime>,
    pub content_type: String,
    pub data: Vec<u8>,
    pub tenant: Option<String>,
    pub idempotency_key: Option<String>,
    pub traceparent: Option<String>,
}

/// An endpoint of the event's organisation, with its delivery if there is one.
#[derive(Debug)]
pub(super) struct EndpointRow {
    pub id: EndpointId,
    pub kind: EndpointKind,
    pub status: EndpointStatus,
    pub tenant_enabled: bool,
    pub tenant: Option<String>,
    pub all_tenants: bool,
    pub event_types: Vec<EventTypePattern>,
    pub filter: Option<String>,
    pub created_at: OffsetDateTime,
    pub deleted_at: Option<OffsetDateTime>,
    /// While its circuit is open nothing is sent before.
    pub open_until: Option<OffsetDateTime>,
    pub consecutive_failures: Option<i32>,
    /// Its receiver wants nothing before.
    pub waits_until: Option<OffsetDateTime>,
    /// Its rate limit lets nothing through before.
    pub paced_until: Option<OffsetDateTime>,
    pub status_of_delivery: Option<DeliveryStatus>,
    pub attempts: Option<i32>,
    pub next_attempt_at: Option<OffsetDateTime>,
    pub is_leased: Option<bool>,
    pub finished_at: Option<OffsetDateTime>,
    pub last_outcome: Option<Outcome>,
    pub stream: Option<String>,
    pub ordinal: Option<i64>,
    /// Another delivery of its ordering key comes first.
    pub is_behind: bool,
    /// A later one of its ordering key is in flight, and leased until then.
    pub later_until: Option<OffsetDateTime>,
    /// It has an ordering key, and rests from when it was made again until then.
    pub rests_until: Option<OffsetDateTime>,
    pub now: OffsetDateTime,
}

/// An attempt.
#[derive(Debug)]
pub(super) struct AttemptRow {
    pub endpoint_id: EndpointId,
    pub number: i32,
    pub started_at: OffsetDateTime,
    pub duration_ms: i32,
    pub outcome: Outcome,
    pub response_status: Option<i16>,
    pub error: Option<String>,
}

/// Where the events of an id are stored, newest first. An id that holds a time is looked for at each organisation, by that
/// time; one that is derived from an idempotency key has an index of its own.
pub(super) async fn places(connection: &mut PgConnection, id: EventId) -> Result<Vec<Place>, sqlx::Error> {
    let Some(millis) = id.accepted_millis() else {
        let query = sqlx::query_as!(
            Place,
            r#"select org_id as "org_id: OrgId", id as "id: EventId", accepted_at from events
               where id = $1 and idempotency_key is not null order by accepted_at desc"#,
            id.as_uuid(),
        );
        return query.fetch_all(connection).await;
    };
    let from = UnixMicros::new(millis.saturating_mul(1_000)).to_date_time();
    let Some(to) = from.checked_add(Duration::MILLISECOND) else {
        return Ok(Vec::new());
    };
    let query = sqlx::query_as!(
        Place,
        r#"select e.org_id as "org_id!: OrgId", e.id as "id!: EventId", e.accepted_at as "accepted_at!"
           from organizations o
           cross join lateral (
               select org_id, id, accepted_at from events
               where org_id = o.id and accepted_at >= $2 and accepted_at < $3 and id = $1
           ) e"#,
        id.as_uuid(),
        from,
        to,
    );
    query.fetch_all(connection).await
}

pub(super) async fn event(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Option<EventRow>, sqlx::Error> {
    let query = sqlx::query_as!(
        EventRow,
        r#"select o.name as organization, e.type as event_type, e.accepted_at, e.stored_at, e.expunged_at,
                  e.content_type, e.data, e.tenant, e.idempotency_key, e.traceparent
           from events e join organizations o on o.id = e.org_id
           where e.org_id = $1 and e.accepted_at = $2 and e.id = $3"#,
        place.org_id.as_uuid(),
        place.accepted_at,
        place.id.as_uuid(),
    );
    query.fetch_optional(connection).await
}

pub(super) async fn endpoints(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Vec<EndpointRow>, sqlx::Error> {
    let query = sqlx::query_as!(
        EndpointRow,
        r#"select p.id as "id: EndpointId", p.kind as "kind: EndpointKind", p.status as "status: EndpointStatus",
                  p.tenant_enabled, p.tenant, p.all_tenants,
                  p.event_types as "event_types: Vec<EventTypePattern>", p.filter, p.created_at, p.deleted_at,
                  h.open_until, h.consecutive_failures as "consecutive_failures?", h.waits_until, s.next_at as "paced_until?",
                  d.status as "status_of_delivery?: DeliveryStatus", d.attempts as "attempts?", d.next_attempt_at,
                  d.lease_token is not null as "is_leased?", d.finished_at,
                  d.last_outcome as "last_outcome: Outcome", d.stream, d.ordinal,
                  exists (
                      select from deliveries earlier
                      where earlier.endpoint_id = d.endpoint_id and earlier.ordering_key = d.ordering_key
                        and earlier.status = 'pending' and earlier.ordinal < d.ordinal
                  ) as "is_behind!",
                  (
                      select max(later.next_attempt_at) from deliveries later
                      where later.endpoint_id = d.endpoint_id and later.ordering_key = d.ordering_key
                        and later.status = 'pending' and later.ordinal > d.ordinal
                        and later.lease_token is not null and later.next_attempt_at > now()
                  ) as later_until,
                  -- As claims have it.
                  case when d.ordering_key is not null then d.revived_at + interval '1 second' end as rests_until,
                  now() as "now!"
           from endpoints p
           left join deliveries d on d.endpoint_id = p.id and d.event_id = $2 and d.accepted_at = $3
           left join endpoint_health h on h.endpoint_id = p.id
           left join endpoint_pace s on s.endpoint_id = p.id
           where p.org_id = $1 and (p.deleted_at is null or d.status is not null)
           order by d.status is null, p.created_at, p.id limit 1000"#,
        place.org_id.as_uuid(),
        place.id.as_uuid(),
        place.accepted_at,
    );
    query.fetch_all(connection).await
}

pub(super) async fn attempts(
    connection: &mut PgConnection,
    place: &Place,
) -> Result<Vec<AttemptRow>, sqlx::Error> {
    let query = sqlx::query_as!(
        AttemptRow,
        r#"select endpoint_id as "endpoint_id!: EndpointId", number as "number!", started_at as "started_at!",
                  duration_ms as "duration_ms!", outcome as "outcome!: Outcome", response_status, error
           from attempt_history where event_id = $1 and accepted_at = $2 and org_id = $3
           order by number, endpoint_id limit 10000"#,
        place.id.as_uuid(),
        place.accepted_at,
        place.org_id.as_uuid(),
    );
    query.fetch_all(connection).await
}

impl EndpointRow {
    /// Where the event is in its stream, as ordered deliveries know it.
    pub(super) fn place(&self) -> Option<String> {
        let (stream, ordinal) = (self.stream.as_ref()?, self.ordinal?);
        let (sequence, index) = (ordinal >> 10, ordinal & 1_023);
        Some(format!(
            "In stream {stream} it was event {index} of message {sequence}."
        ))
    }
}

#[cfg(test)]
impl EndpointRow {
    /// An endpoint that wants all events, for tests.
    pub(super) fn sample() -> Self {
        Self {
            id: EndpointId::generate(),
            kind: EndpointKind::Push,
            status: EndpointStatus::Enabled,
            tenant_enabled: true,
            tenant: None,
            all_tenants: false,
            event_types: Vec::new(),
            filter: None,
            created_at: OffsetDateTime::UNIX_EPOCH,
            deleted_at: None,
            open_until: None,
            consecutive_failures: None,
            waits_until: None,
            paced_until: None,
            status_of_delivery: None,
            attempts: None,
            next_attempt_at: None,
            is_leased: None,
            finished_at: None,
            last_outcome: None,
            stream: None,
            ordinal: None,
            is_behind: false,
            later_until: None,
            rests_until: None,
            now: OffsetDateTime::UNIX_EPOCH,
        }
    }
}
