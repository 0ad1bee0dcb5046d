//! Dropping the partitions of days that are older than the retention.

use sqlx::{PgConnection, PgPool};
use time::{Date, OffsetDateTime};

use super::{LOCK_NOT_AVAILABLE, LOCK_TIMEOUT, SUFFIX, TABLES, execute, has_code, lock, suffix};
use crate::store::usage;
use crate::store::usage::days::{conclude_day, is_settled, settle_day};

/// Days that are too old and still there.
#[derive(Debug, Default)]
pub(crate) struct OldDays {
    /// They stay because of pending deliveries.
    pub kept: Vec<Date>,
    /// Those and the others, of which this is not known.
    pub all: Vec<Date>,
}

/// Drops the partitions of days that ended before `cutoff`, once their usage is counted. A day with a pending delivery stays as
/// a whole, and so does one of whose tables one is busy. Returns the days that stay.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn drop_before(pool: &PgPool, cutoff: OffsetDateTime) -> Result<OldDays, sqlx::Error> {
    let suffixes = sqlx::query_scalar!(
        r#"select distinct right(c.relname, 8) as "suffix!"
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = any(array['events', 'deliveries', 'attempts', 'inbox_acknowledgements']::regclass[])
             and c.relname ~ '_[0-9]{8}$'
           order by 1"#
    )
    .fetch_all(pool)
    .await?;
    let days = suffixes
        .iter()
        .filter_map(|suffix| Date::parse(suffix, SUFFIX).ok());
    let mut old = OldDays::default();
    for day in days.filter(|day| *day < cutoff.date()) {
        match drop_counted_day(pool, day).await {
            Ok(Dropped::Done) => {
                tracing::info!(%day, "dropped the partitions of an old day");
                continue;
            }
            Ok(Dropped::Pending) => {
                old.kept.push(day);
                tracing::warn!(%day, "deliveries are still pending, the day's partitions are kept");
            }
            Ok(Dropped::Uncounted) => {
                tracing::info!(%day, "usage changes still, the old day's partitions are dropped later");
            }
            Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => {
                tracing::info!(%day, "a table is busy, the old day's partitions are dropped later");
            }
            Err(error) => return Err(error),
        }
        old.all.push(day);
    }
    Ok(old)
}

enum Dropped {
    /// It is gone, or was gone already.
    Done,
    /// It holds a pending delivery.
    Pending,
    /// Something has changed since its usage was counted.
    Uncounted,
}

/// Drops a day, and counts its usage before if that is not done.
async fn drop_counted_day(pool: &PgPool, day: Date) -> Result<Dropped, sqlx::Error> {
    match drop_day(pool, day).await? {
        Dropped::Uncounted => {
            settle_day(pool, day).await?;
            drop_day(pool, day).await
        }
        dropped => Ok(dropped),
    }
}

/// Drops the partitions that a day has, all or none: without its deliveries an event would be shown, and could be
/// replayed, whose attempts are still counted.
async fn drop_day(pool: &PgPool, day: Date) -> Result<Dropped, sqlx::Error> {
    let suffix = suffix(day);
    let mut transaction = pool.begin().await?;
    // Before the other lock, which is never held for long.
    usage::lock(&mut transaction).await?;
    lock(&mut transaction).await?;
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    let tables = tables_with(&mut transaction, &suffix).await?;
    // Where the day has no partition of deliveries, they are in the default one; otherwise they cannot be.
    let deliveries = if tables.contains(&"deliveries") {
        (format!("deliveries_{suffix}"), "true".to_owned())
    } else {
        let of_day = format!("accepted_at >= '{suffix}T00:00:00Z' and accepted_at < '{suffix}T24:00:00Z'");
        ("deliveries_default".to_owned(), of_day)
    };
    // Before the tables are taken from everybody else, for a day that stays anyway.
    if has_pending(&mut transaction, &deliveries).await? {
        return Ok(Dropped::Pending);
    }
    if !is_settled(&mut transaction, day).await? {
        return Ok(Dropped::Uncounted);
    }
    // Events come first: a replay holds its event, and then wants to write its delivery.
    let detach = tables
        .iter()
        .map(|table| format!("alter table {table} detach partition {table}_{suffix};"));
    execute(&mut transaction, detach.collect()).await?;
    // Nobody else reaches the rows now. Leaving rolls the detachments back.
    if has_pending(&mut transaction, &deliveries).await? {
        return Ok(Dropped::Pending);
    }
    if !is_settled(&mut transaction, day).await? {
        return Ok(Dropped::Uncounted);
    }
    conclude_day(&mut transaction, day).await?;
    let drop = tables.iter().map(|table| format!("drop table {table}_{suffix};"));
    execute(&mut transaction, drop.collect()).await?;
    transaction.commit().await?;
    Ok(Dropped::Done)
}

/// Those of the tables that have a partition for the day.
async fn tables_with(connection: &mut PgConnection, day: &str) -> Result<Vec<&'static str>, sqlx::Error> {
    let attached = sqlx::query_scalar!(
        r#"select c.relname as "name!" from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = any(array['events', 'deliveries', 'attempts', 'inbox_acknowledgements']::regclass[])
             and right(c.relname, 9) = '_' || $1"#,
        day,
    )
    .fetch_all(connection)
    .await?;
    let tables = TABLES.into_iter();
    Ok(tables
        .filter(|table| attached.contains(&format!("{table}_{day}")))
        .collect())
}

/// Whether a partition of deliveries has a pending row for which a condition holds: one look into each index of those.
async fn has_pending(
    connection: &mut PgConnection,
    (partition, condition): &(String, String),
) -> Result<bool, sqlx::Error> {
    let query = format!(
        "select exists (select from {partition} where status = 'pending' and not pull and ordering_key is null
                            and {condition})
             or exists (select from {partition} where status = 'pending' and pull and {condition})
             or exists (select from {partition} where status = 'pending' and ordering_key is not null and {condition})"
    );
    // The names are the catalogue's, ending in digits.
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .persistent(false)
        .fetch_one(connection)
        .await
}
