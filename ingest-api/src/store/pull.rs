//! Deliveries that their owners pull.

pub(super) mod limits;
pub(super) mod leases;

use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, OrgId};

use self::leases::columns;
use super::{Result, Store};
use crate::domain::lease::Lease;

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

/// The result of acknowledging one delivery.
#[derive(Debug)]
pub(crate) struct AcknowledgedRow {
    /// The lease held.
    pub acknowledged: bool,
    /// The delivery's status before. None when there is no such delivery.
    pub status: Option<DeliveryStatus>,
}

impl Store {
    /// Marks the deliveries delivered whose leases still hold, and records their attempts. The leases must differ;
    /// the outcomes come in their order.
    pub(crate) async fn acknowledge_deliveries(
        &self,
        org_id: OrgId,
        endpoint_id: EndpointId,
        leases: &[Lease],
    ) -> Result<Vec<AcknowledgedRow>> {
        let (ids, times, tokens) = columns(leases);
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
            &ids,
            &times,
            &tokens,
            &leases.iter().map(Lease::leased_at).collect::<Vec<_>>(),
        )
        .fetch_all(&self.pool)
        .await
    }
}
