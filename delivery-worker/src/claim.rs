//! Claiming due deliveries from the table: retries, what found no permit at intake, and what a dead worker left.
//!
//! Fair by endpoint: the index leads from one endpoint with pending rows to the next, and each that has permits
//! gets a few of its own due rows; a million due rows of one endpoint cost the others nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use shared::id::{EndpointId, EventId, LeaseToken, OrgId};
use sqlx::PgPool;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::crash::{self, Point};
use crate::dispatch::{Dispatcher, Job};
use crate::endpoint::Endpoint;
use crate::fan_out::Directory;
use crate::outgoing::{Bodies, Outgoing};
use crate::permits::{Permit, Permits};

/// Most deliveries of one endpoint in one claim.
const MAX_PER_ENDPOINT: usize = 50;

/// Claims until the stop.
#[derive(Debug)]
pub struct Claimer {
    /// The database.
    pub pool: PgPool,
    /// The endpoints.
    pub directory: Arc<Directory>,
    /// What limits the claims.
    pub permits: Permits,
    /// Where the claimed deliveries go.
    pub dispatcher: Dispatcher,
    /// How often the table is searched when nothing else happens.
    pub interval: Duration,
    /// How much longer a lease lasts than the endpoint's timeout.
    pub lease_margin: Duration,
}

/// An endpoint with due deliveries, and the permits taken for them.
struct Share {
    endpoint: Arc<Endpoint>,
    permits: Vec<Permit>,
}

impl Claimer {
    /// Searches the table at every interval, and at once when a backlogged endpoint has a permit again.
    ///
    /// # Errors
    /// When Postgres refuses a statement for another reason than being away: the worker is broken.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(self.interval);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = self.permits.freed() => {}
                () = stop.cancelled() => return Ok(()),
            }
            match self.claim_once().await {
                Ok(()) => {}
                Err(error) if shared::db::is_transient(&error) => {
                    tracing::warn!(%error, "cannot look for due deliveries, trying again");
                    let _ = stop.run_until_cancelled(tokio::time::sleep(self.interval)).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn claim_once(&self) -> Result<(), sqlx::Error> {
        if self.dispatcher.is_behind() {
            return Ok(());
        }
        let endpoints = self.directory.refresh().await?;
        let due = due_endpoints(&self.pool).await?;
        let enabled: Vec<_> = due
            .into_iter()
            .filter_map(|id| endpoints.get(id).cloned())
            .collect();
        if enabled.is_empty() {
            return Ok(());
        }
        let fair_share = (self.permits.available() / enabled.len()).clamp(1, MAX_PER_ENDPOINT);
        let shares: Vec<_> = enabled
            .into_iter()
            .map(|endpoint| {
                endpoint.gate.set_backlogged(true);
                let permits = std::iter::from_fn(|| self.permits.try_acquire(&endpoint.gate));
                Share {
                    permits: permits.take(fair_share).collect(),
                    endpoint,
                }
            })
            .filter(|share| !share.permits.is_empty())
            .collect();
        if shares.is_empty() {
            return Ok(());
        }
        crash::reach(Point::Claiming);
        let claimed = self.claim(&shares).await?;
        if !claimed.is_empty() {
            crash::reach(Point::Claimed);
        }
        metrics::counter!("deliveries_claimed_total").increment(claimed.len() as u64);
        self.start(shares, claimed);
        Ok(())
    }

    async fn claim(&self, shares: &[Share]) -> Result<Vec<Claimed>, sqlx::Error> {
        let lease_ms = |share: &Share| {
            let lease = share.endpoint.timeout + self.lease_margin;
            i64::try_from(lease.as_millis()).unwrap_or(i64::MAX)
        };
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
                    where endpoint_id = share.endpoint_id and status = 'pending' and not pull
                      and next_attempt_at <= now()
                    order by next_attempt_at limit share.take
                    for update skip locked
                ) c
            ) due
            join events e on e.org_id = due.org_id and e.accepted_at = due.accepted_at and e.id = due.event_id
            where d.event_id = due.event_id and d.endpoint_id = due.endpoint_id and d.accepted_at = due.accepted_at
              and d.org_id = due.org_id
            returning d.event_id as "event_id: EventId", d.endpoint_id as "endpoint_id: EndpointId",
                      d.org_id as "org_id: OrgId", d.accepted_at, d.attempts,
                      d.lease_token as "lease_token!: LeaseToken",
                      extract(epoch from now() - d.created_at)::float8 as "age_seconds!",
                      e.type as event_type, e.content_type, e.traceparent, e.cloudevent, e.ordering_key, e.data
            "#,
            &shares.iter().map(|share| share.endpoint.id.as_uuid()).collect::<Vec<_>>(),
            &shares.iter().map(|share| i32::try_from(share.permits.len()).unwrap_or(1)).collect::<Vec<_>>(),
            &shares.iter().map(lease_ms).collect::<Vec<_>>(),
        )
        .fetch_all(&self.pool)
        .await
    }

    fn start(&self, shares: Vec<Share>, claimed: Vec<Claimed>) {
        let mut shares: HashMap<_, _> = shares
            .into_iter()
            .map(|share| (share.endpoint.id, share))
            .collect();
        for delivery in claimed {
            let Some(share) = shares.get_mut(&delivery.endpoint_id) else {
                continue;
            };
            if let Some(permit) = share.permits.pop() {
                self.dispatcher
                    .start(delivery.into_job(share.endpoint.clone()), permit);
            }
        }
        for share in shares.into_values() {
            // A permit that found no row: the endpoint has no more due ones.
            share.endpoint.gate.set_backlogged(share.permits.is_empty());
        }
    }
}

/// The endpoints that have a delivery due now, by a walk over the index from endpoint to endpoint. Deliveries to
/// pull are in another index.
async fn due_endpoints(pool: &PgPool) -> Result<Vec<EndpointId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with recursive first as (
            (select endpoint_id, next_attempt_at from deliveries where status = 'pending' and not pull
             order by endpoint_id, next_attempt_at limit 1)
            union all
            select next.endpoint_id, next.next_attempt_at
            from first cross join lateral (
                select endpoint_id, next_attempt_at from deliveries
                where status = 'pending' and not pull and endpoint_id > first.endpoint_id
                order by endpoint_id, next_attempt_at limit 1
            ) next
        )
        select endpoint_id as "endpoint_id!: EndpointId" from first where next_attempt_at <= now()
        "#,
    )
    .fetch_all(pool)
    .await
}

struct Claimed {
    event_id: EventId,
    endpoint_id: EndpointId,
    org_id: OrgId,
    accepted_at: OffsetDateTime,
    attempts: i32,
    lease_token: LeaseToken,
    age_seconds: f64,
    event_type: String,
    content_type: String,
    traceparent: Option<String>,
    cloudevent: Option<String>,
    ordering_key: Option<String>,
    data: Vec<u8>,
}

impl Claimed {
    fn into_job(self, endpoint: Arc<Endpoint>) -> Job {
        let event = Outgoing {
            id: self.event_id,
            org_id: self.org_id,
            event_type: self.event_type,
            accepted_at: self.accepted_at.into(),
            content_type: self.content_type,
            traceparent: self.traceparent,
            cloudevent: self.cloudevent,
            ordering_key: self.ordering_key,
            data: self.data,
            bodies: Bodies::default(),
        };
        Job {
            event: Arc::new(event),
            endpoint,
            attempt: u32::try_from(self.attempts).unwrap_or(0) + 1,
            age: Duration::try_from_secs_f64(self.age_seconds).unwrap_or_default(),
            lease: self.lease_token,
        }
    }
}
