//! Receivers that say when they want the next request. Their endpoints are held until then: see `endpoint_health`.

use std::collections::HashMap;
use std::time::Duration;

use shared::db::limited::LimitedPool;
use shared::domain::id::EndpointId;

use crate::endpoints::endpoint::Endpoint;
use crate::send::report::Report;

/// How long endpoints wait, by their ids and versions.
type Waits<'a> = HashMap<(EndpointId, i64), (&'a Endpoint, Duration)>;

/// Holds the endpoints whose receivers asked to wait, for the longest of the times in this group. To be called before these
/// results are recorded: other deliveries may be claimed at once.
///
/// An error is only logged: the receiver's next answer does the same again.
pub(super) async fn hold(pool: &LimitedPool, group: &[Report]) {
    let mut waits: Waits<'_> = HashMap::new();
    for report in group {
        if let Some(wait) = report.attempt.asked_wait() {
            let endpoint = &*report.job.endpoint;
            let state = (endpoint.id, endpoint.version);
            let (_, longest) = waits.entry(state).or_insert((endpoint, wait));
            *longest = wait.max(*longest);
        }
    }
    if waits.is_empty() {
        return;
    }
    match write(pool, &waits).await {
        Ok(new) => {
            for endpoint_id in new {
                tracing::info!(%endpoint_id, "the receiver asked to wait, its deliveries are held");
            }
        }
        Err(error) => tracing::warn!(%error, "cannot hold the deliveries of receivers that asked to wait"),
    }
}

/// Returns those that did not wait before. An endpoint that was changed or deleted meanwhile is left out: its receiver may be
/// another one by now. A wait never becomes shorter.
async fn write(pool: &LimitedPool, waits: &Waits<'_>) -> Result<Vec<EndpointId>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"
        with asked as materialized (
            select w.endpoint_id, e.org_id, now() + w.seconds * interval '1 second' as waits_until
            from unnest($1::uuid[], $2::uuid[], $3::float8[], $4::bigint[]) as w (endpoint_id, org_id, seconds, version)
            join endpoints e on e.id = w.endpoint_id and e.org_id = w.org_id and e.version = w.version
                            and e.deleted_at is null
        ),
        held as (
            insert into endpoint_health as h (endpoint_id, org_id, consecutive_failures, failing_since, waits_until)
            select endpoint_id, org_id, 0, now(), waits_until from asked order by endpoint_id
            on conflict (endpoint_id) do update
                set waits_until = greatest(h.waits_until, excluded.waits_until), probe_until = null
        )
        select a.endpoint_id as "endpoint_id!: EndpointId"
        from asked a left join endpoint_health h on h.endpoint_id = a.endpoint_id
        where h.waits_until is null
        "#,
        &waits.keys().map(|(id, _)| id.as_uuid()).collect::<Vec<_>>(),
        &waits.values().map(|(endpoint, _)| endpoint.org_id.as_uuid()).collect::<Vec<_>>(),
        &waits.values().map(|(_, wait)| wait.as_secs_f64()).collect::<Vec<_>>(),
        &waits.keys().map(|(_, version)| *version).collect::<Vec<_>>(),
    )
    .fetch_all(pool)
    .await
}
