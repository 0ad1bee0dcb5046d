//! Client certificates that expire soon: their owners are told once of each.

use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::event::ENDPOINT_CERTIFICATE_EXPIRING;
use shared::domain::id::{EndpointId, EventId};
use sqlx::PgPool;

/// Pause between two looks for certificates.
pub(crate) const INTERVAL: Duration = Duration::from_secs(10);

/// How long before its end a certificate is told of.
const DAYS_BEFORE: i32 = 14;

/// Most certificates in one round.
const MAX_BATCH: usize = 100;

/// Writes an operational event about each certificate that expires soon and was not told of.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn tell(pool: &PgPool) -> Result<(), sqlx::Error> {
    let ids: Vec<_> = (0..MAX_BATCH)
        .map(|_| EventId::at(UnixMicros::now()).as_uuid())
        .collect();
    let told = sqlx::query!(
        r#"with told as (
               insert into certificate_notices as n (endpoint_id, org_id, expires_at)
               select e.id, e.org_id, e.certificate_expires_at
               from endpoints e
               where e.certificate_expires_at < now() + $2::integer * interval '1 day' and e.deleted_at is null
                 and not exists (
                     select from certificate_notices n
                     where n.endpoint_id = e.id and n.expires_at = e.certificate_expires_at
                 )
               order by e.id limit $3
               on conflict (endpoint_id) do update set expires_at = excluded.expires_at
                   where n.expires_at <> excluded.expires_at
               returning endpoint_id, org_id, expires_at
           ),
           numbered as (
               select endpoint_id, org_id, expires_at, row_number() over (order by endpoint_id) as number from told
           ),
           written as (
               insert into operational_events (id, org_id, type, endpoint_id, data)
               select ids.id, t.org_id, $4, t.endpoint_id,
                      json_build_object(
                          'endpoint_id', t.endpoint_id,
                          'certificate_expires_at',
                          to_char(t.expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                      )::text
               from numbered t join unnest($1::uuid[]) with ordinality as ids (id, number) on ids.number = t.number
               where is_operational_event_wanted(t.org_id, $4, t.endpoint_id)
           )
           select endpoint_id as "endpoint_id!: EndpointId", expires_at as "expires_at!" from told"#,
        &ids,
        DAYS_BEFORE,
        i64::try_from(MAX_BATCH).unwrap_or(i64::MAX),
        ENDPOINT_CERTIFICATE_EXPIRING,
    );
    for row in told.fetch_all(pool).await? {
        tracing::warn!(endpoint_id = %row.endpoint_id, expires_at = %row.expires_at, "a client certificate expires soon");
    }
    Ok(())
}
