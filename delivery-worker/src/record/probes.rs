//! Which endpoints are held, and who sends their probes: rows of `endpoint_health`, shared by all workers.

use std::time::Duration;

use shared::domain::id::EndpointId;
use sqlx::PgConnection;
use time::OffsetDateTime;

/// The right to send the one probe of an endpoint.
pub(crate) struct Probe {
    pub endpoint_id: EndpointId,
    /// Until when no other one is sent.
    pub until: OffsetDateTime,
}

/// The endpoints whose deliveries are held: their circuit is open, or their receiver asked to wait.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn held(connection: &mut PgConnection) -> Result<Vec<EndpointId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select endpoint_id as "endpoint_id: EndpointId" from endpoint_health where held_until is not null"#
    )
    .fetch_all(connection)
    .await
}

/// Takes the right to send the one probe of each endpoint whose pause or wait is over; returns those that no other worker
/// took. Each probe has the time of its lease to come to a result; then the next one may be taken.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn take_probes(
    connection: &mut PgConnection,
    probes: &[(EndpointId, Duration)],
) -> Result<Vec<Probe>, sqlx::Error> {
    sqlx::query_as!(
        Probe,
        r#"update endpoint_health h
           set open_until = case when h.open_until is not null then now() + due.lease * interval '1 second' end,
               probe_until = case when h.waits_until is not null then now() + due.lease * interval '1 second' end
           from (
               select h.endpoint_id, probe.lease
               from unnest($1::uuid[], $2::float8[]) as probe (endpoint_id, lease)
               join endpoint_health h on h.endpoint_id = probe.endpoint_id and h.held_until <= now()
               for update of h skip locked
           ) due
           where h.endpoint_id = due.endpoint_id
           returning h.endpoint_id as "endpoint_id: EndpointId", h.held_until as "until!""#,
        &probes.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>(),
        &probes
            .iter()
            .map(|(_, lease)| lease.as_secs_f64())
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}

/// Lets other workers send these probes in a second: no delivery was due. What another result has written meanwhile stays: its
/// pause is for the receiver.
///
/// # Errors
/// When Postgres does not answer; then the probes come after a lease.
pub(crate) async fn give_back_probes(
    connection: &mut PgConnection,
    unused: &[Probe],
) -> Result<(), sqlx::Error> {
    if unused.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update endpoint_health h
         set open_until = case when open_until is not null then least(open_until, now() + interval '1 second') end,
             probe_until = case when waits_until is not null then least(probe_until, now() + interval '1 second') end
         from unnest($1::uuid[], $2::timestamptz[]) as unused (endpoint_id, until)
         where h.endpoint_id = unused.endpoint_id and h.held_until = unused.until",
        &unused.iter().map(|probe| probe.endpoint_id.as_uuid()).collect::<Vec<_>>(),
        &unused.iter().map(|probe| probe.until).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
