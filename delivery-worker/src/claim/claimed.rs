//! What a claim has taken, and the two statements that take it: both read the same of an event.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::id::{EndpointId, EventId, LeaseToken, OrgId};
use sqlx::PgConnection;
use time::OffsetDateTime;

use super::share::Share;
use crate::endpoints::endpoint::Endpoint;
use crate::send::content::body::{Bodies, Outgoing};
use crate::send::content::carried::Carried;
use crate::send::job::Job;

/// A delivery that this worker has leased, with its event.
pub(super) struct Claimed {
    pub(super) event_id: EventId,
    pub(super) endpoint_id: EndpointId,
    pub(super) org_id: OrgId,
    pub(super) accepted_at: OffsetDateTime,
    /// Attempts since it was last made pending by a person, or since it was stored.
    pub(super) attempts: i32,
    /// Time since then.
    pub(super) age_seconds: f64,
    pub(super) ordered: bool,
    pub(super) lease_token: LeaseToken,
    pub(super) event_type: String,
    pub(super) content_type: String,
    pub(super) traceparent: Option<String>,
    pub(super) tracestate: Option<String>,
    pub(super) baggage: Option<String>,
    pub(super) cloudevent: Option<String>,
    pub(super) ordering_key: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) data: Vec<u8>,
}

impl Claimed {
    /// The job that sends it.
    pub(super) fn into_job(self, endpoint: Arc<Endpoint>) -> Job {
        let event = Outgoing {
            id: self.event_id,
            org_id: self.org_id,
            event_type: self.event_type,
            accepted_at: self.accepted_at.into(),
            content_type: self.content_type,
            trace: Carried {
                traceparent: self.traceparent,
                tracestate: self.tracestate,
                baggage: self.baggage,
            },
            cloudevent: self.cloudevent,
            ordering_key: self.ordering_key,
            tenant: self.tenant,
            data: self.data,
            bodies: Bodies::default(),
        };
        Job {
            event: Arc::new(event),
            endpoint,
            attempt: u32::try_from(self.attempts).unwrap_or(0) + 1,
            age: Duration::try_from_secs_f64(self.age_seconds).unwrap_or_default(),
            ordered: self.ordered,
            lease: self.lease_token,
        }
    }
}

/// A delivery that is the first pending one of its ordering key.
pub(super) struct Head {
    pub(super) org_id: OrgId,
    pub(super) event_id: EventId,
    pub(super) endpoint_id: EndpointId,
    pub(super) accepted_at: OffsetDateTime,
    /// For how long it is leased.
    pub(super) lease_ms: i64,
}

/// Leases the deliveries without an ordering key that are due longest, of each endpoint as many as its share has permits.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn lease_longest_due(
    connection: &mut PgConnection,
    shares: &[&Share],
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"
        update deliveries d
        set lease_token = gen_random_uuid(), next_attempt_at = now() + due.lease_ms * interval '1 millisecond'
        from (
            select c.org_id, c.event_id, c.endpoint_id, c.accepted_at, share.lease_ms
            from unnest($1::uuid[], $2::integer[], $3::bigint[]) as share (endpoint_id, take, lease_ms)
            cross join lateral (
                select org_id, event_id, endpoint_id, accepted_at from deliveries
                where endpoint_id = share.endpoint_id and status = 'pending' and not pull and ordering_key is null
                  and next_attempt_at <= now()
                order by next_attempt_at limit share.take
                for update skip locked
            ) c
        ) due
        join events e on e.org_id = due.org_id and e.accepted_at = due.accepted_at and e.id = due.event_id
        where d.event_id = due.event_id and d.endpoint_id = due.endpoint_id and d.accepted_at = due.accepted_at
          and d.org_id = due.org_id
        returning d.event_id as "event_id: EventId", d.endpoint_id as "endpoint_id: EndpointId",
                  d.org_id as "org_id: OrgId", d.accepted_at, d.attempts - d.attempts_before as "attempts!",
                  extract(epoch from now() - coalesce(d.revived_at, d.created_at))::float8 as "age_seconds!",
                  d.ordering_key is not null as "ordered!", d.lease_token as "lease_token!: LeaseToken",
                  e.type as event_type, e.content_type, e.traceparent, e.tracestate, e.baggage, e.cloudevent,
                  e.ordering_key, e.tenant, e.data
        "#,
        &shares.iter().map(|share| share.endpoint.id.as_uuid()).collect::<Vec<_>>(),
        &shares.iter().map(|share| share.take()).collect::<Vec<_>>(),
        &shares.iter().map(|share| share.lease_ms()).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}

/// Leases these deliveries, as far as they are due still and nobody else has them.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn lease_heads(
    connection: &mut PgConnection,
    heads: &[Head],
) -> Result<Vec<Claimed>, sqlx::Error> {
    sqlx::query_as!(
        Claimed,
        r#"
        update deliveries d
        set lease_token = gen_random_uuid(), next_attempt_at = now() + due.lease_ms * interval '1 millisecond'
        from (
            select c.org_id, c.event_id, c.endpoint_id, c.accepted_at, head.lease_ms
            from unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::bigint[])
                as head (org_id, event_id, endpoint_id, accepted_at, lease_ms)
            cross join lateral (
                select org_id, event_id, endpoint_id, accepted_at from deliveries
                where event_id = head.event_id and endpoint_id = head.endpoint_id and accepted_at = head.accepted_at
                  and org_id = head.org_id and status = 'pending' and next_attempt_at <= now()
                for update skip locked
            ) c
        ) due
        join events e on e.org_id = due.org_id and e.accepted_at = due.accepted_at and e.id = due.event_id
        where d.event_id = due.event_id and d.endpoint_id = due.endpoint_id and d.accepted_at = due.accepted_at
          and d.org_id = due.org_id
        returning d.event_id as "event_id: EventId", d.endpoint_id as "endpoint_id: EndpointId",
                  d.org_id as "org_id: OrgId", d.accepted_at, d.attempts - d.attempts_before as "attempts!",
                  extract(epoch from now() - coalesce(d.revived_at, d.created_at))::float8 as "age_seconds!",
                  d.ordering_key is not null as "ordered!", d.lease_token as "lease_token!: LeaseToken",
                  e.type as event_type, e.content_type, e.traceparent, e.tracestate, e.baggage, e.cloudevent,
                  e.ordering_key, e.tenant, e.data
        "#,
        &heads.iter().map(|head| head.org_id.as_uuid()).collect::<Vec<_>>(),
        &heads.iter().map(|head| head.event_id.as_uuid()).collect::<Vec<_>>(),
        &heads.iter().map(|head| head.endpoint_id.as_uuid()).collect::<Vec<_>>(),
        &heads.iter().map(|head| head.accepted_at).collect::<Vec<_>>(),
        &heads.iter().map(|head| head.lease_ms).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}
