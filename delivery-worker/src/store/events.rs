//! Writing events and their deliveries: one statement, and writing the same events again changes nothing. Those with an ordering key
//! have the earliest of their places. And removing what they hold.

mod new_delivery;
mod earlier;

use std::collections::HashSet;
use std::time::Duration;

use shared::db::limited::LimitedPool;
use shared::domain::event::Event;
use shared::domain::id::{EndpointId, EventId, OrgId};
use shared::domain::name::Tenant;
use sqlx::PgConnection;
use time::OffsetDateTime;
use uuid::Uuid;

pub(crate) use self::earlier::move_forward;
pub(crate) use self::new_delivery::{Ended, NewDelivery, Order};

/// Result of a write.
#[derive(Debug)]
pub(crate) enum Stored {
    /// No event was written: endpoints that they may go to have changed since the deliveries were planned.
    Stale,
    /// They are stored.
    New(New),
}

/// What a write has stored.
#[derive(Debug)]
pub(crate) struct New {
    /// The events that were new, and are now stored with their deliveries. The others were repeats.
    pub events: HashSet<EventId>,
    /// Endpoints with leased deliveries among these that are held: they must not start.
    pub held: Vec<EndpointId>,
}

/// Whose endpoints some events may go to, each once: an organisation's own, and those of a tenant.
#[derive(Debug, Default)]
pub(crate) struct Owners<'a> {
    org_ids: Vec<Uuid>,
    /// The organisation's own have the empty text.
    tenants: Vec<&'a str>,
}

impl<'a> Owners<'a> {
    /// Of these events.
    pub(crate) fn of<'e>(events: impl Iterator<Item = &'e Event<'a>>) -> Self
    where
        'a: 'e,
    {
        let (mut seen, mut owners) = (HashSet::new(), Self::default());
        for event in events {
            for tenant in std::iter::once("").chain(event.tenant) {
                if seen.insert((event.org_id, tenant)) {
                    owners.org_ids.push(event.org_id.as_uuid());
                    owners.tenants.push(tenant);
                }
            }
        }
        owners
    }
}

/// Those of some endpoints that are not well.
#[derive(Debug)]
pub(crate) struct Unwell {
    /// They have failed since their last success.
    pub failing: Vec<EndpointId>,
    /// They are held.
    pub held: Vec<EndpointId>,
}

/// Which of these endpoints are not well, when those of `owners` have not changed since `version`; `None` when they have.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn unwell(
    connection: &mut PgConnection,
    version: i64,
    owners: &Owners<'_>,
    endpoints: &[EndpointId],
) -> Result<Option<Unwell>, sqlx::Error> {
    let ids: Vec<_> = endpoints.iter().map(|id| id.as_uuid()).collect();
    sqlx::query_as!(
        Unwell,
        r#"select array(select endpoint_id from endpoint_health where endpoint_id = any($2))
                      as "failing!: Vec<EndpointId>",
                  array(select endpoint_id from endpoint_health where endpoint_id = any($2) and held_until is not null)
                      as "held!: Vec<EndpointId>"
           from endpoint_version where version = $1 or version > $1 and not have_endpoints_changed($1, $3, $4)"#,
        version,
        &ids,
        &owners.org_ids,
        &owners.tenants as _,
    )
    .fetch_optional(connection)
    .await
}

/// Writes events, which must differ in their ids, and their deliveries, unless the endpoints that they may go to have changed
/// since `version`, or the database was restored and counts from an earlier one. Events that are stored already, and repeats
/// of an idempotency key within 24 hours, are left out.
///
/// # Errors
/// When Postgres does not answer or refuses a value; then nothing was written, or all of it was.
#[expect(clippy::too_many_lines, reason = "it is one statement with its parameters")]
pub(crate) async fn store(
    connection: &mut PgConnection,
    version: i64,
    events: &[&Event<'_>],
    deliveries: &[&NewDelivery<'_>],
) -> Result<Stored, sqlx::Error> {
    let owners = Owners::of(events.iter().copied());
    let orders: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery.order.as_ref())
        .collect();
    let ended: Vec<_> = deliveries
        .iter()
        .map(|delivery| delivery.ended.as_deref())
        .collect();
    let leased = deliveries.iter().filter(|delivery| delivery.lease().is_some());
    let leased: HashSet<_> = leased.map(|delivery| delivery.endpoint_id).collect();
    let event_of = |delivery: &&NewDelivery<'_>| events[delivery.event];
    let row = sqlx::query!(
        r#"
        with current as materialized (
            select version = $1 or version > $1 and not have_endpoints_changed($1, $29, $30) as matches from endpoint_version
        ),
        incoming as materialized (
            select * from unnest($2::uuid[], $3::uuid[], $4::timestamptz[], $5::text[], $6::text[], $7::bytea[],
                                 $8::text[], $9::text[], $10::text[], $11::text[], $28::text[], $32::text[],
                                 $33::text[])
                as e (id, org_id, accepted_at, type, content_type, data, idempotency_key, traceparent, cloudevent,
                      ordering_key, tenant, tracestate, baggage)
            where (select matches from current)
        ),
        first_of_key as (
            insert into idempotency_keys as k (org_id, event_id, accepted_at)
            select org_id, id, accepted_at from incoming where idempotency_key is not null order by org_id, id
            on conflict (org_id, event_id) do update set accepted_at = excluded.accepted_at
                where k.accepted_at <= excluded.accepted_at - interval '24 hours'
            returning org_id, event_id
        ),
        new_events as (
            insert into events (id, org_id, accepted_at, type, content_type, data, idempotency_key, traceparent,
                                cloudevent, ordering_key, tenant, tracestate, baggage)
            select id, org_id, accepted_at, type, content_type, data, idempotency_key, traceparent, cloudevent,
                   ordering_key, tenant, tracestate, baggage
            from incoming i
            where idempotency_key is null or id in (select event_id from first_of_key)
            order by org_id, accepted_at, id
            on conflict do nothing
            returning id
        ),
        new_deliveries as (
            insert into deliveries (org_id, event_id, endpoint_id, accepted_at, pull, status, next_attempt_at,
                                    finished_at, last_outcome, lease_token, ordering_key, stream, ordinal, attempts,
                                    last_attempt, last_started_at, last_duration_ms, last_response_status,
                                    last_response_body, last_failure, last_error)
            select d.org_id, d.event_id, d.endpoint_id, d.accepted_at, d.pull, d.status,
                   case when d.status = 'pending' then now() + coalesce(d.due_ms, 0) * interval '1 millisecond' end,
                   case when d.status <> 'pending' then now() end, d.outcome, d.lease_token, d.ordering_key, d.stream,
                   d.ordinal, (d.started_at is not null)::integer, case when d.started_at is not null then 1 end,
                   d.started_at, d.duration_ms, d.response_status, d.response_body,
                   case when d.status = 'pending' then d.outcome end, d.error
            from unnest($12::uuid[], $13::uuid[], $14::uuid[], $15::timestamptz[], $16::boolean[], $17::bigint[],
                        $18::uuid[], $19::text[], $20::text[], $21::bigint[], $22::text[], $23::text[],
                        $24::timestamptz[], $25::integer[], $26::smallint[], $27::bytea[], $34::text[])
                     as d (org_id, event_id, endpoint_id, accepted_at, pull, due_ms, lease_token, ordering_key,
                           stream, ordinal, status, outcome, started_at, duration_ms, response_status, response_body,
                           error)
            -- As a test and not as a join: the planner would compare each delivery with each event.
            where (d.event_id in (select id from new_events)) is true
        )
        select matches as "matches!", array(select id from new_events) as "new!: Vec<EventId>",
               array(select endpoint_id from endpoint_health where endpoint_id = any($31) and held_until is not null)
                   as "held!: Vec<EndpointId>"
        from current
        "#,
        version,
        &events.iter().map(|event| event.id.as_uuid()).collect::<Vec<_>>(),
        &events.iter().map(|event| event.org_id.as_uuid()).collect::<Vec<_>>(),
        &events.iter().map(|event| event.accepted_at.to_date_time()).collect::<Vec<OffsetDateTime>>(),
        &events.iter().map(|event| event.event_type).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.content_type).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.data).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.idempotency_key).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.traceparent).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.cloudevent).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.ordering_key).collect::<Vec<_>>() as _,
        &deliveries.iter().map(|delivery| event_of(delivery).org_id.as_uuid()).collect::<Vec<_>>(),
        &deliveries.iter().map(|delivery| event_of(delivery).id.as_uuid()).collect::<Vec<_>>(),
        &deliveries.iter().map(|delivery| delivery.endpoint_id.as_uuid()).collect::<Vec<_>>(),
        &deliveries.iter().map(|delivery| event_of(delivery).accepted_at.to_date_time()).collect::<Vec<_>>(),
        &deliveries.iter().map(|delivery| delivery.pull).collect::<Vec<_>>(),
        &deliveries.iter().map(|delivery| due_ms(delivery)).collect::<Vec<_>>() as _,
        &deliveries.iter().map(|delivery| lease_token(delivery)).collect::<Vec<_>>() as _,
        &orders.iter().map(|order| order.map(|order| &*order.key)).collect::<Vec<_>>() as _,
        &orders.iter().map(|order| order.map(|order| order.stream)).collect::<Vec<_>>() as _,
        &orders.iter().map(|order| order.map(|order| order.ordinal)).collect::<Vec<_>>() as _,
        &deliveries.iter().map(|delivery| delivery.status()).collect::<Vec<_>>() as _,
        &deliveries.iter().map(|delivery| delivery.outcome()).collect::<Vec<_>>() as _,
        &ended.iter().map(|ended| Some((*ended)?.started_at)).collect::<Vec<_>>() as _,
        &ended.iter().map(|ended| Some(millis((*ended)?.duration))).collect::<Vec<_>>() as _,
        &ended.iter().map(|ended| status((*ended)?.status)).collect::<Vec<_>>() as _,
        &ended.iter().map(|ended| Some((*ended)?.response.as_slice())).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.tenant).collect::<Vec<_>>() as _,
        &owners.org_ids,
        &owners.tenants as _,
        &leased.iter().map(|id| id.as_uuid()).collect::<Vec<_>>(),
        &events.iter().map(|event| event.tracestate).collect::<Vec<_>>() as _,
        &events.iter().map(|event| event.baggage).collect::<Vec<_>>() as _,
        &ended.iter().map(|ended| (*ended)?.error.as_deref()).collect::<Vec<_>>() as _,
    )
    .fetch_one(connection)
    .await?;
    Ok(if row.matches {
        Stored::New(New {
            events: row.new.into_iter().collect(),
            held: row.held,
        })
    } else {
        Stored::Stale
    })
}

/// Looks whether events and deliveries can be written now, without waiting.
///
/// # Errors
/// When somebody has locked their tables, as for a new index, or when Postgres does not answer.
pub(crate) async fn can_be_written(pool: &LimitedPool) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    sqlx::query("lock table events, deliveries in row exclusive mode nowait")
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Removes from a tenant's events all that its producers gave: from at most `limit` events, and from none that others have locked.
/// Returns when these events were accepted, and their ids.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn expunge(
    connection: &mut PgConnection,
    org_id: OrgId,
    tenant: &Tenant,
    limit: i64,
) -> Result<(Vec<OffsetDateTime>, Vec<Uuid>), sqlx::Error> {
    let events = sqlx::query!(
        "with left_over as (
             select accepted_at, id from events where org_id = $1 and tenant = $2 limit $3 for update skip locked
         )
         update events e
         set data = '', expunged_at = coalesce(e.expunged_at, now()), tenant = null, idempotency_key = null,
             ordering_key = null, traceparent = null, tracestate = null, baggage = null, cloudevent = null
         from left_over l where e.org_id = $1 and e.accepted_at = l.accepted_at and e.id = l.id
         returning e.accepted_at, e.id",
        org_id.as_uuid(),
        tenant.as_str(),
        limit,
    );
    let events = events.fetch_all(connection).await?;
    Ok(events.iter().map(|event| (event.accepted_at, event.id)).unzip())
}

/// Milliseconds of an attempt, as a column holds them.
pub(crate) fn millis(duration: Duration) -> i32 {
    i32::try_from(duration.as_millis()).unwrap_or(i32::MAX)
}

/// An answer's status, as a column holds it.
pub(crate) fn status(status: Option<u16>) -> Option<i16> {
    status.and_then(|status| i16::try_from(status).ok())
}

fn due_ms(delivery: &NewDelivery<'_>) -> Option<i64> {
    let after = delivery.due_after()?;
    Some(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
}

fn lease_token(delivery: &NewDelivery<'_>) -> Option<Uuid> {
    delivery.lease().map(|(token, _)| token.as_uuid())
}
