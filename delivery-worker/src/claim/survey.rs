//! Which endpoints have deliveries that may be sent.

use std::time::Duration;

use shared::domain::id::EndpointId;
use sqlx::PgConnection;
use uuid::Uuid;

/// What waits for an endpoint. Seconds are negative for a time in the future.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// Seconds since the oldest delivery without an ordering key became due.
    pub due_seconds: Option<f64>,
    /// The same for deliveries with an ordering key. Skips those that are known to wait for another one of their key.
    pub ordered_seconds: Option<f64>,
    /// Seconds since a worker may send one probe; `None` while nothing holds the endpoint.
    pub probe_seconds: Option<f64>,
}

impl Waiting {
    /// Whether a delivery without an ordering key is due.
    pub(super) fn has_due(&self) -> bool {
        self.due_seconds.is_some_and(is_past)
    }

    /// Whether a delivery with an ordering key may be due.
    pub(super) fn has_ordered(&self) -> bool {
        self.ordered_seconds.is_some_and(is_past)
    }

    /// Whether what is sent is a probe.
    pub(super) fn is_probe(&self) -> bool {
        self.probe_seconds.is_some()
    }

    /// Its circuit is open or its receiver asked to wait, and no probe is due yet.
    pub(super) fn is_held(&self) -> bool {
        self.probe_seconds.is_some_and(|seconds| !is_past(seconds))
    }

    /// Time from now until something may be sent; `None` while no delivery waits.
    pub(super) fn next_look(&self) -> Option<Duration> {
        let waits = [self.due_seconds, self.ordered_seconds];
        let due_for = waits.into_iter().flatten().reduce(f64::max)?;
        let allowed_for = self.probe_seconds.map_or(due_for, |probe| due_for.min(probe));
        Some(Duration::try_from_secs_f64(-allowed_for).unwrap_or_default())
    }
}

fn is_past(seconds: f64) -> bool {
    seconds >= 0.0
}

/// Up to `most` endpoints that have pending deliveries to send, in the order of their ids, after `after`.
///
/// The query walks both indexes of what may be due, from endpoint to endpoint. Deliveries to pull stand in another index,
/// and those that wait for another one of their key in none. `least` ignores null: it is null, and ends the walk, when both
/// indexes have no further endpoint.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn walk(
    connection: &mut PgConnection,
    after: Option<EndpointId>,
    most: usize,
) -> Result<Vec<EndpointId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with recursive walked (endpoint_id, step) as (
            select $1::uuid, 0
            union all
            select least(
                (select endpoint_id from deliveries
                 where status = 'pending' and not pull and ordering_key is null and endpoint_id > w.endpoint_id
                 order by endpoint_id, next_attempt_at limit 1),
                (select endpoint_id from deliveries
                 where status = 'pending' and ordering_key is not null and not parked and endpoint_id > w.endpoint_id
                 order by endpoint_id, next_attempt_at, ordinal limit 1)
            ), step + 1
            from walked w where w.endpoint_id is not null and w.step < $2
        )
        select endpoint_id as "endpoint_id!: EndpointId" from walked where step > 0 and endpoint_id is not null
        order by step
        "#,
        after.map_or(Uuid::nil(), EndpointId::as_uuid),
        i32::try_from(most).unwrap_or(i32::MAX),
    )
    .fetch_all(connection)
    .await
}

/// What waits for each of these endpoints. Looks once into each index, however many rows wait there.
///
/// # Errors
/// When Postgres does not answer.
pub(super) async fn look(
    connection: &mut PgConnection,
    endpoints: &[EndpointId],
) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"
        select l.endpoint_id as "endpoint_id!: EndpointId", extract(epoch from now() - f.due_at)::float8 as due_seconds,
               extract(epoch from now() - o.due_at)::float8 as ordered_seconds,
               extract(epoch from now() - h.held_until)::float8 as probe_seconds
        from unnest($1::uuid[]) as l (endpoint_id)
        left join lateral (
            select next_attempt_at as due_at from deliveries
            where endpoint_id = l.endpoint_id and status = 'pending' and not pull and ordering_key is null
            order by next_attempt_at limit 1
        ) f on true
        left join lateral (
            select next_attempt_at as due_at from deliveries
            where endpoint_id = l.endpoint_id and status = 'pending' and ordering_key is not null and not parked
            order by next_attempt_at, ordinal limit 1
        ) o on true
        left join endpoint_health h on h.endpoint_id = l.endpoint_id
        "#,
        &endpoints.iter().map(|id| id.as_uuid()).collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}
