//! Which endpoints have deliveries that may be sent.

use std::collections::HashSet;

use shared::id::EndpointId;
use sqlx::PgConnection;

use crate::fan_out::Snapshot;

/// An endpoint with waiting deliveries and a circuit that lets one through.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// The endpoint.
    pub endpoint_id: EndpointId,
    /// It has a delivery without an ordering key that is due, the first of them for so many seconds.
    pub due_seconds: Option<f64>,
    /// It has a pending delivery with an ordering key; whether one is due is seen key by key.
    pub ordered: bool,
    /// Its circuit is open and the pause is over: one delivery may be sent, by one worker.
    pub probe: bool,
}

impl Waiting {
    /// It has a delivery without an ordering key that is due.
    pub fn has_due(&self) -> bool {
        self.due_seconds.is_some()
    }
}

/// Walks over both indexes from endpoint to endpoint. Deliveries to pull are in another index; endpoints whose circuit
/// is open are left out until their pause is over.
///
/// # Errors
/// When Postgres does not answer.
pub async fn waiting(connection: &mut PgConnection) -> Result<Vec<Waiting>, sqlx::Error> {
    sqlx::query_as!(
        Waiting,
        r#"
        with recursive first as (
            (select endpoint_id, next_attempt_at from deliveries
             where status = 'pending' and not pull and ordering_key is null
             order by endpoint_id, next_attempt_at limit 1)
            union all
            select next.endpoint_id, next.next_attempt_at
            from first cross join lateral (
                select endpoint_id, next_attempt_at from deliveries
                where status = 'pending' and not pull and ordering_key is null and endpoint_id > first.endpoint_id
                order by endpoint_id, next_attempt_at limit 1
            ) next
        ),
        keyed as (
            (select endpoint_id from deliveries where status = 'pending' and ordering_key is not null
             order by endpoint_id, ordering_key, ordinal limit 1)
            union all
            select next.endpoint_id
            from keyed cross join lateral (
                select endpoint_id from deliveries
                where status = 'pending' and ordering_key is not null and endpoint_id > keyed.endpoint_id
                order by endpoint_id, ordering_key, ordinal limit 1
            ) next
        ),
        waiting as (
            select endpoint_id, next_attempt_at as due_at, false as keyed from first where next_attempt_at <= now()
            union all
            select endpoint_id, null, true from keyed
        )
        select w.endpoint_id as "endpoint_id!: EndpointId", extract(epoch from now() - min(w.due_at))::float8 as due_seconds,
               bool_or(w.keyed) as "ordered!", bool_or(h.open_until is not null) as "probe!"
        from waiting w
        left join endpoint_health h on h.endpoint_id = w.endpoint_id
        where h.open_until is null or h.open_until <= now()
        group by w.endpoint_id
        "#,
    )
    .fetch_all(connection)
    .await
}

/// Lets new events of endpoints start at once again for which nothing waits any more: another worker may have taken the
/// last of it.
pub fn end_backlogs(endpoints: &Snapshot, waiting: &[Waiting]) {
    let due = waiting.iter().filter(|waiting| waiting.has_due());
    let due: HashSet<_> = due.map(|waiting| waiting.endpoint_id).collect();
    for endpoint in endpoints
        .endpoints()
        .filter(|endpoint| !due.contains(&endpoint.id))
    {
        endpoint.gate.set_backlogged(false);
    }
}
