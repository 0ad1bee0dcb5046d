//! Leases that their holders give back or extend.

use shared::domain::clock::UnixMicros;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::event::{DELIVERY_DEAD, OPERATIONAL_TYPES};
use shared::domain::id::{EndpointId, EventId, OrgId};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::domain::lease::Lease;
use crate::store::{Result, Store};

/// The result of giving back one delivery.
#[derive(Debug)]
pub(crate) struct NackedRow {
    /// The delivery's status now; none when the lease did not hold.
    pub now: Option<DeliveryStatus>,
    /// Its status before. None when there is no such delivery.
    pub status: Option<DeliveryStatus>,
}

/// The result of extending one lease.
#[derive(Debug)]
pub(crate) struct ExtendedRow {
    /// The lease's new end; none when it did not hold.
    pub lease_expires_at: Option<OffsetDateTime>,
    /// The delivery's status. None when there is no such delivery.
    pub status: Option<DeliveryStatus>,
}

/// The events of leases, when these were accepted, and the leases' tokens, as statements take them.
pub(super) fn columns(leases: &[Lease]) -> (Vec<Uuid>, Vec<OffsetDateTime>, Vec<Uuid>) {
    (
        leases.iter().map(|lease| lease.event_id.as_uuid()).collect(),
        leases.iter().map(|lease| lease.accepted_at).collect(),
        leases.iter().map(|lease| lease.token.as_uuid()).collect(),
    )
}

impl Store {
    /// Ends the leases that still hold as failed attempts, which are recorded: the deliveries are due again after the delay, or
    /// dead if they are out of attempts or too old, which those hear who want to. The leases must differ; the outcomes come in their
    /// order.
    pub(crate) async fn give_back_deliveries(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        leases: &[Lease],
        delay_seconds: i32,
    ) -> Result<Vec<NackedRow>> {
        let notices = leases.iter().map(|_| EventId::at(UnixMicros::now()).as_uuid());
        let (ids, times, tokens) = columns(leases);
        sqlx::query_as!(
            NackedRow,
            r#"
            with given as materialized (
                select * from unnest($3::uuid[], $4::timestamptz[], $5::uuid[], $6::timestamptz[], $7::uuid[])
                    with ordinality as g (event_id, accepted_at, lease_token, leased_at, notice_id, position)
                limit cardinality($3)
            ),
            endpoint as materialized (
                select retry_attempts, now() - retry_max_age_ms * interval '1 millisecond' as oldest
                from endpoints where id = $2 and org_id = $1
            ),
            nacked as (
                update deliveries d
                set attempts = d.attempts + 1, lease_token = null, last_outcome = $9,
                    status = case when d.attempts - d.attempts_before + 1 >= e.retry_attempts
                                    or coalesce(d.revived_at, d.created_at) <= e.oldest then 'dead' else 'pending' end,
                    next_attempt_at = case when d.attempts - d.attempts_before + 1 >= e.retry_attempts
                                             or coalesce(d.revived_at, d.created_at) <= e.oldest then null
                                           else now() + $8::integer * interval '1 second' end,
                    finished_at = case when d.attempts - d.attempts_before + 1 >= e.retry_attempts
                                         or coalesce(d.revived_at, d.created_at) <= e.oldest then now() end
                from given g cross join endpoint e
                where d.event_id = g.event_id and d.endpoint_id = $2 and d.accepted_at = g.accepted_at
                  and d.org_id = $1 and d.pull and d.lease_token = g.lease_token
                returning d.event_id, d.accepted_at, d.attempts, d.status, g.leased_at, g.notice_id, g.position
            ),
            attempted as (
                insert into attempts (org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms,
                                      outcome)
                select $1, event_id, $2, accepted_at, attempts, leased_at,
                       least(greatest(extract(epoch from now() - leased_at) * 1000, 0), 2147483647)::integer, $9
                from nacked
            ),
            told as (
                insert into operational_events (id, org_id, type, endpoint_id, data)
                select n.notice_id, $1, $10, $2,
                       json_build_object('endpoint_id', $2::uuid, 'event_id', n.event_id, 'event_type', e.type,
                                         'attempts', n.attempts, 'reason', $9::text)::text
                from nacked n
                join events e on e.org_id = $1 and e.accepted_at = n.accepted_at and e.id = n.event_id
                where n.status = 'dead' and e.type <> all($11) and is_operational_event_wanted($1, $10, $2)
            )
            select n.status as "now?: DeliveryStatus", d.status as "status?: DeliveryStatus"
            from given g
            left join nacked n on n.position = g.position
            left join deliveries d on d.event_id = g.event_id and d.endpoint_id = $2
                                  and d.accepted_at = g.accepted_at and d.org_id = $1 and d.pull
            order by g.position
            "#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            &ids,
            &times,
            &tokens,
            &leases.iter().map(Lease::leased_at).collect::<Vec<_>>(),
            &notices.collect::<Vec<_>>(),
            delay_seconds,
            Outcome::Rejected as _,
            DELIVERY_DEAD,
            &OPERATIONAL_TYPES as &[&str],
        )
        .fetch_all(&self.pool)
        .await
    }

    /// Lets the leases that still hold end so many seconds from now. The leases must differ; the outcomes come in their order.
    pub(crate) async fn extend_leases(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        leases: &[Lease],
        lease_seconds: i32,
    ) -> Result<Vec<ExtendedRow>> {
        let (ids, times, tokens) = columns(leases);
        sqlx::query_as!(
            ExtendedRow,
            r#"
            with given as materialized (
                select * from unnest($3::uuid[], $4::timestamptz[], $5::uuid[]) with ordinality
                    as g (event_id, accepted_at, lease_token, position)
                limit cardinality($3)
            ),
            extended as (
                update deliveries d set next_attempt_at = now() + $6::integer * interval '1 second'
                from given g
                where d.event_id = g.event_id and d.endpoint_id = $2 and d.accepted_at = g.accepted_at
                  and d.org_id = $1 and d.pull and d.status = 'pending' and d.lease_token = g.lease_token
                returning d.next_attempt_at, g.position
            )
            select x.next_attempt_at as "lease_expires_at?", d.status as "status?: DeliveryStatus"
            from given g
            left join extended x on x.position = g.position
            left join deliveries d on d.event_id = g.event_id and d.endpoint_id = $2
                                  and d.accepted_at = g.accepted_at and d.org_id = $1 and d.pull
            order by g.position
            "#,
            org_id.as_uuid(),
            endpoint_id.as_uuid(),
            &ids,
            &times,
            &tokens,
            lease_seconds,
        )
        .fetch_all(&self.pool)
        .await
    }
}
