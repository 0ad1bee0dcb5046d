//! Deliveries that their owners pull.

use shared::domain::delivery::DeliveryStatus;
use shared::domain::endpoint::EndpointKind;
use shared::domain::id::{EndpointId, EventId, LeaseToken, OrgId};
use sqlx::{Executor, Postgres};
use time::OffsetDateTime;

use super::{MAX_PAGE_BYTES, Result, Store};
use crate::domain::lease::Lease;
use crate::domain::realm::Realm;

/// A request to lease deliveries.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pull {
    /// The organisation that owns the endpoint.
    pub org_id: OrgId,
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// At most this many.
    pub max: i32,
    /// How long the leases hold, in seconds.
    pub lease_seconds: i32,
}

/// A leased delivery with its event.
#[derive(Debug)]
pub(crate) struct PulledRow {
    pub event_id: EventId,
    pub accepted_at: OffsetDateTime,
    pub event_type: String,
    pub content_type: String,
    pub data: Vec<u8>,
    pub idempotency_key: Option<String>,
    pub ordering_key: Option<String>,
    pub tenant: Option<String>,
    pub traceparent: Option<String>,
    pub tracestate: Option<String>,
    pub baggage: Option<String>,
    pub cloudevent: Option<String>,
    /// Attempts that have ended, and leases that have run out.
    pub attempts: i32,
    pub lease_expires_at: OffsetDateTime,
}

/// The result of acknowledging one delivery.
#[derive(Debug)]
pub(crate) struct AcknowledgedRow {
    /// The lease held.
    pub acknowledged: bool,
    /// The delivery's status before. None when there is no such delivery.
    pub status: Option<DeliveryStatus>,
}

impl Store {
    /// An endpoint's kind, and whether it is enabled.
    pub(crate) async fn find_endpoint_kind(
        &self,
        realm: &Realm,
        endpoint_id: EndpointId,
    ) -> Result<Option<(EndpointKind, bool)>> {
        let row = sqlx::query!(
            r#"select kind as "kind: EndpointKind", status = 'enabled' and tenant_enabled as "enabled!"
               from endpoints
               where id = $1 and org_id = $2 and ($3::text is null or tenant = $3) and deleted_at is null"#,
            endpoint_id.as_uuid(),
            realm.org_id.as_uuid(),
            realm.tenant(),
        );
        let row = row.fetch_optional(&self.pool).await?;
        Ok(row.map(|row| (row.kind, row.enabled)))
    }

    /// Marks the deliveries delivered whose leases still hold, and records their attempts. The leases must differ;
    /// the outcomes come in their order.
    pub(crate) async fn acknowledge_deliveries(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        leases: &[Lease],
    ) -> Result<Vec<AcknowledgedRow>> {
        sqlx::query_as!(
            AcknowledgedRow,
            r#"
            with given as materialized (
                select * from unnest($3::uuid[], $4::timestamptz[], $5::uuid[], $6::timestamptz[]) with ordinality
                    as g (event_id, accepted_at, lease_token, leased_at, position)
                -- All of them; with a limit that it does not know the planner expects one row, and looks it up by its key.
                limit cardinality($3)
            ),
            acknowledged as (
                update deliveries d
                set status = 'delivered', attempts = d.attempts + 1, next_attempt_at = null, finished_at = now(),
                    lease_token = null, last_outcome = 'delivered'
                from given g
                where d.event_id = g.event_id and d.endpoint_id = $2 and d.accepted_at = g.accepted_at
                  and d.org_id = $1 and d.pull and d.lease_token = g.lease_token
                returning d.event_id, d.accepted_at, d.attempts, g.leased_at, g.position
            ),
            attempted as (
                insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms,
                                      outcome)
                select $1, event_id, $2, accepted_at, attempts, leased_at,
                       -- The replica that leased it may have another clock.
                       least(greatest(extract(epoch from now() - leased_at) * 1000, 0), 2147483647)::integer,
                       'delivered'
                from acknowledged
            )
            select a.position is not null as "acknowledged!", d.status as "status?: DeliveryStatus"
            from given g
            left join acknowledged a on a.position = g.position
            left join deliveries d on d.event_id = g.event_id and d.endpoint_id = $2
                                  and d.accepted_at = g.accepted_at and d.org_id = $1 and d.pull
            order by g.position
            "#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            &leases.iter().map(|lease| lease.event_id.as_uuid()).collect::<Vec<_>>(),
            &leases.iter().map(|lease| lease.accepted_at).collect::<Vec<_>>(),
            &leases.iter().map(|lease| lease.token.as_uuid()).collect::<Vec<_>>(),
            &leases.iter().map(Lease::leased_at).collect::<Vec<_>>(),
        )
        .fetch_all(&self.pool)
        .await
    }
}

/// Leases due deliveries under a token, those that are due longest first. A lease that ran out before counts as an
/// attempt. Deliveries that are out of attempts, or too old, are left to the workers, which end them.
pub(super) async fn lease<'e>(
    executor: impl Executor<'e, Database = Postgres>,
    pull: &Pull,
    token: LeaseToken,
) -> Result<Vec<PulledRow>> {
    sqlx::query_as!(
        PulledRow,
        r#"
        with endpoint as materialized (
            select retry_attempts, retry_max_age_ms from endpoints
            where id = $2 and org_id = $1 and status = 'enabled' and tenant_enabled and deleted_at is null
        ),
        due as materialized (
            select event_id, accepted_at, next_attempt_at from deliveries
            where org_id = $1 and endpoint_id = $2 and status = 'pending' and pull and next_attempt_at <= now()
              and exists (select from endpoint)
              -- Null, which is no limit, is not true.
              and (attempts - attempts_before + (lease_token is not null)::integer
                   >= (select retry_attempts from endpoint)) is not true
              and (coalesce(revived_at, created_at)
                   <= now() - (select retry_max_age_ms from endpoint) * interval '1 millisecond') is not true
            order by next_attempt_at limit $3
            for update skip locked
        ),
        sized as (
            select due.event_id, due.accepted_at,
                   row_number() over (order by due.next_attempt_at, due.event_id) as number,
                   sum(octet_length(e.data) + coalesce(octet_length(e.cloudevent), 0) + coalesce(octet_length(e.baggage), 0))
                       over (order by due.next_attempt_at, due.event_id) as total
            from due join events e on e.org_id = $1 and e.accepted_at = due.accepted_at and e.id = due.event_id
        ),
        leased as (
            update deliveries d
            set lease_token = $4, next_attempt_at = now() + $5::integer * interval '1 second',
                attempts = d.attempts + (d.lease_token is not null)::integer
            from sized s
            where d.event_id = s.event_id and d.endpoint_id = $2 and d.accepted_at = s.accepted_at
              and d.org_id = $1 and (s.total <= $6 or s.number = 1)
            returning d.event_id, d.accepted_at, d.attempts, d.next_attempt_at, s.number
        )
        select l.event_id as "event_id: EventId", l.accepted_at, e.type as event_type, e.content_type, e.data,
               e.idempotency_key, e.ordering_key, e.tenant, e.traceparent, e.tracestate, e.baggage, e.cloudevent,
               l.attempts, l.next_attempt_at as "lease_expires_at!"
        from leased l join events e on e.org_id = $1 and e.accepted_at = l.accepted_at and e.id = l.event_id
        order by l.number
        "#,
        pull.org_id.as_uuid(),
        pull.endpoint_id.as_uuid(),
        i64::from(pull.max),
        token.as_uuid(),
        pull.lease_seconds,
        MAX_PAGE_BYTES as _,
    )
    .fetch_all(executor)
    .await
}
