//! How much organisations use: counts of each hour, read from the tables and written as a whole, so that counting an hour again
//! changes nothing but what has changed.

pub(crate) mod late;
pub(crate) mod days;
pub(crate) mod removal;

use std::time::{Duration, Instant};

use shared::domain::event::OPERATIONAL_TYPES;
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::OffsetDateTime;

/// Held while hours are counted, or what they came to is moved or removed: one worker at a time. Who counts has read the tables
/// before it writes, and would write anew what was removed meanwhile.
const ADVISORY_LOCK: i64 = 0x7065_6e73_7573_6167;

/// How long whoever waits for it does so: longer than an hour takes to be counted.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '10min'";

/// Plans are made for the hours that are counted: one for any hours would open the partitions of all days. Old and new counts of
/// many tenants are compared by hashing.
const OWN_PLAN: &str = "set local plan_cache_mode = force_custom_plan; set local enable_hashjoin = on";

/// Hours that are counted at once, where they took less than this time.
const MOST_AT_ONCE: usize = 96;
const QUICK: Duration = Duration::from_millis(500);

/// What is done when another worker counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is left to that one.
    Leave,
    /// It is waited for.
    Wait,
}

/// Takes the lock until the transaction ends, if nobody has it.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn try_lock(transaction: &mut PgConnection) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select pg_try_advisory_xact_lock($1) as "free!""#,
        ADVISORY_LOCK
    )
    .fetch_one(transaction)
    .await
}

/// Waits for the lock, and has it until the transaction ends.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn lock(transaction: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        .execute(transaction)
        .await?;
    Ok(())
}

/// Whole hours after `from`, up to the last one that is over at `until`, that are to be counted: first those that never were,
/// then those in which something has changed, or may have. The pauses between two counts of an hour double.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn due(
    pool: &PgPool,
    from: OffsetDateTime,
    until: OffsetDateTime,
) -> Result<Vec<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select w.at as "at!"
           from generate_series(date_trunc('hour', $1::timestamptz, 'UTC') + interval '1 hour',
                                date_trunc('hour', $2::timestamptz, 'UTC') - interval '1 hour',
                                interval '1 hour') as w (at)
           left join usage_hours h on h.hour = w.at
           where h.hour is null
              or h.state in ('open', 'settled') and now() >= h.counted_at + interval '10 minutes'
                 and (exists (select from usage_recounts r where r.hour = w.at)
                      or h.state = 'open' and now() >= h.counted_at + (h.counted_at - h.open_since))
           order by h.hour is not null, w.at"#,
        from,
        until,
    )
    .fetch_all(pool)
    .await
}

/// Counts hours, some at once while that is quick. False when another worker counts and is not waited for.
///
/// # Errors
/// When Postgres does not answer. Each hour is counted as a whole or not at all.
pub(crate) async fn count_each(
    pool: &PgPool,
    mut hours: &[OffsetDateTime],
    turn: Turn,
) -> Result<bool, sqlx::Error> {
    let mut at_once = 1;
    while !hours.is_empty() {
        let (next, rest) = hours.split_at(at_once.min(hours.len()));
        let begun = Instant::now();
        if !count(pool, next, turn).await? {
            return Ok(false);
        }
        let took = begun.elapsed();
        at_once = if took < QUICK {
            MOST_AT_ONCE.min(at_once * 2)
        } else {
            1
        };
        if turn == Turn::Leave {
            // Half the time is for others who want the lock, and for what else Postgres has to do.
            tokio::time::sleep(took).await;
        }
        hours = rest;
    }
    Ok(true)
}

/// Counts some hours, at least one.
async fn count(pool: &PgPool, hours: &[OffsetDateTime], turn: Turn) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    match turn {
        Turn::Wait => lock(&mut transaction).await?,
        Turn::Leave => {
            if !try_lock(&mut transaction).await? {
                return Ok(false);
            }
        }
    }
    sqlx::raw_sql(OWN_PLAN).execute(&mut *transaction).await?;
    let hours = countable(&mut transaction, hours).await?;
    // What is noted after this statement has begun makes the hour due again.
    let changed = sqlx::query_scalar!(
        "delete from usage_recounts where hour = any($1) returning hour",
        &hours
    );
    let changed = changed.fetch_all(&mut *transaction).await?;
    write_counts(&mut transaction, &hours, &changed).await?;
    transaction.commit().await?;
    Ok(true)
}

/// Those of the hours whose day was not dropped since they were found to be due.
async fn countable(
    transaction: &mut PgConnection,
    hours: &[OffsetDateTime],
) -> Result<Vec<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select w.at as "at!" from unnest($1::timestamptz[]) as w (at)
           where not exists (select from usage_hours h where h.hour = w.at and h.state in ('final', 'merged'))"#,
        hours,
    )
    .fetch_all(transaction)
    .await
}

/// One statement, and so one look at the tables. In the hours of `changed` something was known to have changed.
async fn write_counts(
    transaction: &mut PgConnection,
    hours: &[OffsetDateTime],
    changed: &[OffsetDateTime],
) -> Result<(), sqlx::Error> {
    sqlx::query!(
        r#"
        with wanted as materialized (
            select w.at, (w.at at time zone 'UTC')::date as day,
                   extract(hour from w.at at time zone 'UTC')::smallint as hour
            from unnest($1::timestamptz[]) as w (at)
        ),
        counted as materialized (
            select c.*, (c.at at time zone 'UTC')::date as day,
                   extract(hour from c.at at time zone 'UTC')::smallint as hour
            from count_usage($1::timestamptz[], $2::timestamptz, $3::timestamptz, $4::text[]) c
        ),
        written as (
            insert into usage as u (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
            select org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead from counted
            on conflict (org_id, day, tenant, hour) do update
            set accepted = excluded.accepted, bytes = greatest(u.bytes, excluded.bytes),
                delivered = excluded.delivered, attempts = excluded.attempts, dead = excluded.dead
        ),
        -- Those of a tenant that is being deleted become events of none.
        gone as (
            update usage u set accepted = 0, delivered = 0, attempts = 0, dead = 0
            from wanted w
            where u.day = w.day and u.hour = w.hour
              and not exists (
                  select from counted c where c.at = w.at and c.org_id = u.org_id and c.tenant = u.tenant
              )
        ),
        totals as (
            insert into usage_totals (org_id, day, hour, accepted)
            select org_id, day, hour, sum(accepted)::bigint from counted group by org_id, day, hour
            on conflict (org_id, day, hour) do update set accepted = excluded.accepted
        )
        insert into usage_hours as h (hour, counted_at, state, open_since)
        select w.at, now(),
               case when now() < w.at + interval '70 minutes'
                      or exists (select from counted c where c.at = w.at and c.pending > 0) then 'open'
                    else 'settled' end,
               now()
        from wanted w
        on conflict (hour) do update
        set counted_at = excluded.counted_at, state = excluded.state,
            open_since = case when h.state = 'open' and h.hour <> all($5) then h.open_since else excluded.open_since end
        "#,
        hours,
        hours.iter().min().copied(),
        hours.iter().max().map(|last| *last + time::Duration::HOUR),
        &OPERATIONAL_TYPES as &[&str],
        changed,
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// The end of the last hour that was counted.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn counted_through(
    database: impl PgExecutor<'_>,
) -> Result<Option<OffsetDateTime>, sqlx::Error> {
    sqlx::query_scalar!(r#"select max(hour) + interval '1 hour' as "through" from usage_hours"#)
        .fetch_one(database)
        .await
}
