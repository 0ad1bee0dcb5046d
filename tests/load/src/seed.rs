//! Rows that it would take hours to make by sending events.

use anyhow::Context as _;
use shared::domain::id::EndpointId;
use shared::secret::SigningSecret;
use sqlx::PgPool;

use crate::client::request::{EVENT_BYTES, FIRST_NUMBER};
use crate::site::Site;

/// Tenants in one statement.
const TENANTS_AT_ONCE: usize = 500;

/// Rows in one statement.
const CHUNK: usize = 500_000;

/// When deliveries are due.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Due {
    /// Now.
    Now,
    /// After a failed attempt, in one to ten hours.
    Later,
}

/// Events of the site's organisation with one pending delivery each.
pub(crate) async fn deliveries(
    site: &Site,
    endpoint: EndpointId,
    count: usize,
    due: Due,
) -> anyhow::Result<()> {
    let mut left = count;
    while left > 0 {
        let rows = left.min(CHUNK);
        let first = FIRST_NUMBER + u64::try_from(count - left)?;
        let statement = sqlx::query(
            r#"
            with made as (
                insert into events (org_id, accepted_at, id, type, content_type, data)
                select $1, now() - n * interval '1 microsecond', gen_random_uuid(), 'load.seeded', 'application/json',
                       convert_to('{"n":' || ($4 + n - 1) || ',"text":"' || repeat('x', $5) || '"}', 'UTF8')
                from generate_series(1, $3::bigint) as n
                returning id, accepted_at
            )
            insert into deliveries (org_id, event_id, endpoint_id, accepted_at, attempts, next_attempt_at)
            select $1, id, $2, accepted_at, case when $6 then 1 else 0 end,
                   now() + case when $6 then interval '1 hour' + random() * interval '9 hours' else interval '0' end
            from made
            "#,
        );
        statement
            .bind(site.org_id)
            .bind(endpoint)
            .bind(i64::try_from(rows)?)
            .bind(i64::try_from(first)?)
            .bind(i32::try_from(EVENT_BYTES - 100)?)
            .bind(matches!(due, Due::Later))
            .execute(&site.database)
            .await
            .context("cannot make deliveries")?;
        left -= rows;
    }
    Ok(())
}

/// For each endpoint, deliveries of so many ordering keys that wait for their next attempt, for one to ten hours. They have
/// no events: nobody claims them so soon.
pub(crate) async fn waiting_keys(site: &Site, endpoints: &[EndpointId], keys: usize) -> anyhow::Result<()> {
    for endpoints in endpoints.chunks(100) {
        let statement = sqlx::query(
            "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, attempts, next_attempt_at,
                                     ordering_key, stream, ordinal)
             select $1, gen_random_uuid(), endpoint, now(), 1,
                    now() + interval '1 hour' + random() * interval '9 hours', 'key-' || key, 'EVENTS-0', key
             from unnest($2::uuid[]) as endpoint, generate_series(1, $3::bigint) as key",
        );
        statement
            .bind(site.org_id)
            .bind(endpoints)
            .bind(i64::try_from(keys)?)
            .execute(&site.database)
            .await
            .context("cannot make deliveries that wait")?;
    }
    for statement in ["vacuum (analyze) deliveries", "checkpoint"] {
        sqlx::query(statement).execute(&site.database).await?;
    }
    Ok(())
}

/// Events of a thousand organisations, the site's own among them, accepted within the last ten minutes.
pub(crate) async fn events(site: &Site, count: usize, mut done: impl FnMut(usize)) -> anyhow::Result<()> {
    let orgs: Vec<uuid::Uuid> = std::iter::once(site.org_id.as_uuid())
        .chain((1..1_000).map(|_| uuid::Uuid::now_v7()))
        .collect();
    let mut left = count;
    while left > 0 {
        let rows = left.min(CHUNK);
        let statement = sqlx::query(
            r#"
            insert into events (org_id, accepted_at, id, type, content_type, data)
            select ($1::uuid[])[1 + n % 1000], now() - random() * interval '10 minutes', gen_random_uuid(),
                   'load.seeded', 'application/json',
                   convert_to('{"n":' || n || ',"text":"' || repeat('x', $3) || '"}', 'UTF8')
            from generate_series(1, $2::bigint) as n
            "#,
        );
        statement
            .bind(&orgs)
            .bind(i64::try_from(rows)?)
            .bind(i32::try_from(EVENT_BYTES - 100)?)
            .execute(&site.database)
            .await
            .context("cannot make events")?;
        left -= rows;
        done(count - left);
    }
    settle(&site.database).await
}

/// The id of a tenant by its number.
pub(crate) fn tenant_uid(number: usize) -> String {
    format!("tenant-{number}")
}

/// Tenants with one endpoint each, all at one URL.
pub(crate) async fn tenants(site: &Site, url: &str, count: usize) -> anyhow::Result<()> {
    // In small parts: each row changes the same row of versions.
    for first in (0..count).step_by(TENANTS_AT_ONCE) {
        let numbers = first..count.min(first + TENANTS_AT_ONCE);
        let (uids, ids): (Vec<_>, Vec<_>) = numbers
            .map(|number| (tenant_uid(number), EndpointId::generate()))
            .unzip();
        let seal = |id: &EndpointId| SigningSecret::generate().seal(&site.secrets_key, *id);
        let secrets: Vec<_> = ids.iter().map(seal).collect();
        let statement = sqlx::query(
            "with made as (
                 insert into tenants (org_id, uid) select $1, uid from unnest($2::text[]) as uid
             )
             insert into endpoints (id, org_id, tenant, url, secret, max_in_flight, timeout_ms)
             select id, $1, uid, $5, secret, 256, 15000
             from unnest($2::text[], $3::uuid[], $4::bytea[]) as e (uid, id, secret)",
        );
        let statement = statement
            .bind(site.org_id)
            .bind(&uids)
            .bind(&ids)
            .bind(&secrets)
            .bind(url);
        statement
            .execute(&site.database)
            .await
            .context("cannot make tenants")?;
    }
    for statement in ["vacuum (analyze) endpoints, tenants, organizations", "checkpoint"] {
        sqlx::query(statement).execute(&site.database).await?;
    }
    Ok(())
}

/// Events of the site's organisation: of other tenants, and some of the tenant `listed`, the oldest of all.
pub(crate) async fn tenant_events(site: &Site, others: usize, listed: usize) -> anyhow::Result<()> {
    let made = [("listed", listed, "20 minutes"), ("other", others, "10 minutes")];
    for (tenant, count, age) in made {
        let mut left = count;
        while left > 0 {
            let rows = left.min(CHUNK);
            let statement = sqlx::query(
                "insert into events (org_id, accepted_at, id, type, content_type, data, tenant)
                 select $1, now() - $4::interval + n * interval '1 microsecond', gen_random_uuid(), 'load.seeded',
                        'application/json', convert_to('{\"n\":' || n || '}', 'UTF8'), $3
                 from generate_series(1, $2::bigint) as n",
            );
            let statement = statement
                .bind(site.org_id)
                .bind(i64::try_from(rows)?)
                .bind(tenant)
                .bind(age);
            statement
                .execute(&site.database)
                .await
                .context("cannot make events")?;
            left -= rows;
        }
    }
    settle(&site.database).await
}

/// Gets what follows on so many rows over with, so that it is not measured with something else.
async fn settle(database: &PgPool) -> anyhow::Result<()> {
    for statement in ["vacuum (analyze) events", "checkpoint"] {
        sqlx::query(statement).execute(database).await?;
    }
    Ok(())
}
