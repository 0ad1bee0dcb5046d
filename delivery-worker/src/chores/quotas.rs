//! Measures how much of their quotas organisations and tenants have used, and tells them of it. The API refuses the events of
//! those whose quota says so, as soon as it reads what stands in `quota_uses`.

use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::event::{OPERATIONAL_TYPES, ORGANIZATION_QUOTA, TENANT_QUOTA};
use shared::domain::id::{EventId, OrgId};
use shared::process::nats::Nats;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;

use crate::chores::deleted::erasing::CLOCKS_APART;
use crate::intake::consume::streams::stored_through;
use crate::store::{partitions, usage};

/// Pause between two looks.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);

/// Most quotas that are told of in one round.
const MAX_BATCH: usize = 100;

/// Measures all quotas, unless another worker does, or counts usage. Says whether one was told
/// of: there may be more.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn take_round(pool: &PgPool, nats: &Nats) -> Result<bool, sqlx::Error> {
    if !are_there_any(pool).await? {
        return Ok(false);
    }
    let now = partitions::now(pool).await?;
    let Some(stored_through) = stored_through(nats, now).await else {
        return Ok(false);
    };
    let mut transaction = pool.begin().await?;
    if !usage::try_lock(&mut transaction).await? {
        return Ok(false);
    }
    forget(&mut transaction).await?;
    measure(&mut transaction, stored_through - CLOCKS_APART).await?;
    let told = tell(&mut transaction).await?;
    transaction.commit().await?;
    let found = !told.is_empty();
    for quota in told {
        let percent = quota.level.to_string();
        metrics::counter!("penstock_quotas_reached_total", "percent" => percent).increment(1);
        tracing::warn!(
            org_id = %quota.org_id,
            tenant = quota.tenant,
            percent = quota.level,
            used = quota.used,
            events_per_month = quota.events_per_month,
            "a quota is reached"
        );
    }
    Ok(found)
}

async fn are_there_any(pool: &PgPool) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select exists (select from organizations where events_per_month is not null)
               or exists (select from tenants where events_per_month is not null)
               or exists (select from quota_uses) as "any!""#
    )
    .fetch_one(pool)
    .await
}

/// Removes what was measured for quotas that are not there any more.
async fn forget(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "delete from quota_uses q
         where not exists (
             select from organizations o
             where o.id = q.org_id and q.tenant = '' and o.events_per_month is not null and o.deleting_since is null
         ) and not exists (
             select from tenants t
             where t.org_id = q.org_id and t.uid = q.tenant and t.events_per_month is not null
               and t.deleting_since is null
         )"
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// What was accepted in the month: in the hours that are counted, and since then before `stored`. Of the latter only those are
/// counted that came since the last time.
async fn measure(transaction: &mut PgConnection, stored: OffsetDateTime) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with times as materialized (
            select m.month, m.next_month, greatest(m.month, c.counted) as base,
                   greatest(m.month, c.counted, $1::timestamptz) as stored
            from (
                select date_trunc('month', now(), 'UTC') as month,
                       (date_trunc('month', now() at time zone 'UTC') + interval '1 month') at time zone 'UTC' as next_month
            ) m
            cross join (
                select coalesce(max(hour) + interval '1 hour', '-infinity'::timestamptz) as counted from usage_hours
            ) c
        ),
        limited as materialized (
            select id as org_id, '' as tenant, events_per_month, quota_action from organizations
            where events_per_month is not null and deleting_since is null
            union all
            select org_id, uid, events_per_month, quota_action from tenants
            where events_per_month is not null and deleting_since is null
        ),
        known as materialized (
            select l.org_id, l.tenant, l.events_per_month, l.quota_action, t.month, t.next_month, t.base,
                   greatest(q.counted_to, t.stored) as stored, coalesce(q.counted_to, t.base) as since,
                   coalesce(q.running, 0) as running
            from limited l
            cross join times t
            left join quota_uses q on q.org_id = l.org_id and q.tenant = l.tenant and q.base = t.base
        ),
        measured as materialized (
            select k.*,
                   case when k.tenant = '' then (
                       select coalesce(sum(u.accepted), 0) from usage_totals u
                       where u.org_id = k.org_id and u.day >= (k.month at time zone 'UTC')::date
                   ) else (
                       select coalesce(sum(u.accepted), 0) from usage u
                       where u.org_id = k.org_id and u.tenant = k.tenant and u.tenant <> ''
                         and u.day >= (k.month at time zone 'UTC')::date
                   ) end::bigint as counted,
                   k.running + case when k.tenant = '' then (
                       select count(*) from events e
                       where e.org_id = k.org_id and e.accepted_at >= k.since and e.accepted_at < k.stored
                         and e.type <> all($2)
                   ) else (
                       select count(*) from events e
                       where e.org_id = k.org_id and e.tenant = k.tenant and e.tenant is not null
                         and e.accepted_at >= k.since and e.accepted_at < k.stored and e.type <> all($2)
                   ) end as running_now
            from known k
        )
        insert into quota_uses as q (org_id, tenant, month, events_per_month, used, base, running, counted_to,
                                     refused_until)
        select org_id, tenant, (month at time zone 'UTC')::date, events_per_month, counted + running_now, base,
               running_now, stored,
               case when quota_action = 'refuse' and counted + running_now >= events_per_month then next_month end
        from measured
        on conflict (org_id, tenant) do update
        set month = excluded.month, events_per_month = excluded.events_per_month, used = excluded.used,
            base = excluded.base, running = excluded.running, counted_to = excluded.counted_to,
            refused_until = excluded.refused_until,
            told = case when q.month = excluded.month then q.told else 0 end
        "#,
        stored,
        &OPERATIONAL_TYPES as &[&str],
    )
    .execute(&mut *transaction)
    .await?;
    // What was raised is told of again.
    sqlx::query!("update quota_uses set told = level where told > level")
        .execute(transaction)
        .await?;
    Ok(())
}

/// A quota that is told of.
struct Told {
    org_id: OrgId,
    /// Empty: the organisation's.
    tenant: String,
    level: i16,
    used: i64,
    events_per_month: i64,
}

/// Writes an operational event about each quota that has reached a further level.
async fn tell(transaction: &mut PgConnection) -> Result<Vec<Told>, sqlx::Error> {
    let ids: Vec<_> = (0..MAX_BATCH)
        .map(|_| EventId::at(UnixMicros::now()).as_uuid())
        .collect();
    sqlx::query_as!(
        Told,
        r#"with told as (
               update quota_uses q set told = q.level
               from (
                   select org_id, tenant from quota_uses where level > told order by org_id, tenant limit $2
               ) due
               where q.org_id = due.org_id and q.tenant = due.tenant
               returning q.org_id, q.tenant, q.month, q.level, q.used, q.events_per_month, q.refused_until
           ),
           numbered as (
               select t.*, case when tenant = '' then $3::text else $4::text end as type,
                      row_number() over (order by org_id, tenant) as number
               from told t
           ),
           written as (
               insert into operational_events (id, org_id, type, tenant, data)
               select ids.id, t.org_id, t.type, nullif(t.tenant, ''),
                      json_strip_nulls(json_build_object(
                          'tenant', nullif(t.tenant, ''),
                          'month', to_char(t.month, 'YYYY-MM'),
                          'percent', t.level,
                          'used', t.used,
                          'events_per_month', t.events_per_month,
                          'refused_until',
                          to_char(t.refused_until at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
                      ))::text
               from numbered t join unnest($1::uuid[]) with ordinality as ids (id, number) on ids.number = t.number
               where is_notice_wanted(t.org_id, t.type, nullif(t.tenant, ''))
           )
           select org_id as "org_id!: OrgId", tenant as "tenant!", level as "level!", used as "used!",
                  events_per_month as "events_per_month!"
           from told"#,
        &ids,
        i64::try_from(MAX_BATCH).unwrap_or(i64::MAX),
        ORGANIZATION_QUOTA,
        TENANT_QUOTA,
    )
    .fetch_all(transaction)
    .await
}
