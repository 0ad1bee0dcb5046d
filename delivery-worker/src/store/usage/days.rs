//! Usage of whole days: counted to the end before their rows are dropped, and added up afterwards.

use sqlx::{PgConnection, PgPool};
use time::Date;

use super::{Turn, count_each, lock};

/// Counts the hours of a day that are not counted for good. Waits for its turn.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn settle_day(pool: &PgPool, day: Date) -> Result<(), sqlx::Error> {
    let hours = sqlx::query_scalar!(
        r#"select w.at as "at!"
           from generate_series($1::timestamptz, $1::timestamptz + interval '23 hours', interval '1 hour') as w (at)
           left join usage_hours h on h.hour = w.at
           where h.hour is null or h.state = 'open'
              or h.state = 'settled' and exists (select from usage_recounts r where r.hour = w.at)
           order by w.at"#,
        day.midnight().assume_utc(),
    );
    let hours = hours.fetch_all(pool).await?;
    count_each(pool, &hours, Turn::Wait).await?;
    Ok(())
}

/// Whether all hours of a day are counted for good, as far as is known.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn is_settled(connection: &mut PgConnection, day: Date) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(
        r#"select (select count(*) from usage_hours
                   where hour >= $1::timestamptz and hour < $1 + interval '24 hours' and state <> 'open') = 24
              and not exists (select from usage_recounts where hour >= $1::timestamptz and hour < $1 + interval '24 hours')
              as "settled!""#,
        day.midnight().assume_utc(),
    )
    .fetch_one(connection)
    .await
}

/// Notes that the day's rows are gone with this transaction: its hours are never counted again.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn conclude_day(transaction: &mut PgConnection, day: Date) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update usage_hours set state = 'final'
         where hour >= $1::timestamptz and hour < $1 + interval '24 hours' and state = 'settled'",
        day.midnight().assume_utc(),
    )
    .execute(transaction)
    .await?;
    Ok(())
}

/// Adds up the hours of the days that were dropped, so that a day is one row for each tenant.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn merge_days(pool: &PgPool) -> Result<(), sqlx::Error> {
    let days = sqlx::query_scalar!(
        r#"select distinct (hour at time zone 'UTC')::date as "day!" from usage_hours where state = 'final'"#
    );
    for day in days.fetch_all(pool).await? {
        let mut transaction = pool.begin().await?;
        lock(&mut transaction).await?;
        sqlx::query!(
            "with hours as (
                 delete from usage where day = $1::date and hour > 0
                 returning org_id, tenant, accepted, bytes, delivered, attempts, dead
             )
             insert into usage as u (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
             select org_id, $1::date, tenant, 0, sum(accepted)::bigint, sum(bytes)::bigint, sum(delivered)::bigint,
                    sum(attempts)::bigint, sum(dead)::bigint
             from hours group by org_id, tenant
             on conflict (org_id, day, tenant, hour) do update
             set accepted = u.accepted + excluded.accepted, bytes = u.bytes + excluded.bytes,
                 delivered = u.delivered + excluded.delivered, attempts = u.attempts + excluded.attempts,
                 dead = u.dead + excluded.dead",
            day,
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!(
            "update usage_hours set state = 'merged'
             where hour >= $1::timestamptz and hour < $1 + interval '24 hours' and state = 'final'",
            day.midnight().assume_utc(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
    }
    Ok(())
}
