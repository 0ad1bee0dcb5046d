//! Which endpoints are held, and who sends their probes: rows of `endpoint_health`, shared by all workers.

use std::time::Duration;

use shared::domain::id::EndpointId;
use sqlx::PgConnection;

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
) -> Result<Vec<EndpointId>, sqlx::Error> {
    sqlx::query_scalar!(
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
           returning h.endpoint_id as "endpoint_id: EndpointId""#,
        &probes.iter().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>(),
        &probes
            .iter()
            .map(|(_, lease)| lease.as_secs_f64())
            .collect::<Vec<_>>(),
    )
    .fetch_all(connection)
    .await
}

/// Lets other workers send these probes in a second: no delivery was due.
///
/// # Errors
/// When Postgres does not answer; then the probes come after a lease.
pub(crate) async fn give_back_probes(
    connection: &mut PgConnection,
    unused: &[EndpointId],
) -> Result<(), sqlx::Error> {
    if unused.is_empty() {
        return Ok(());
    }
    sqlx::query!(
        "update endpoint_health
         set open_until = case when open_until is not null then least(open_until, now() + interval '1 second') end,
             probe_until = case when waits_until is not null then least(probe_until, now() + interval '1 second') end
         where endpoint_id = any($1)",
        &unused.iter().map(|id| id.as_uuid()).collect::<Vec<_>>(),
    )
    .execute(connection)
    .await?;
    Ok(())
}
