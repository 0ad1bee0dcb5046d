//! The daily partitions of the big tables: made ahead of time, and dropped when they are older than the retention.

use std::time::Duration;

use shared::limited::within;
use sqlx::{PgConnection, PgPool};
use time::OffsetDateTime;
use time::macros::format_description;
use tokio_util::sync::CancellationToken;

const TABLES: [&str; 4] = ["events", "deliveries", "attempts", "inbox_acknowledgements"];

/// The days that have partitions, counted from today, which comes first: events may come late out of a backlog, and the
/// clocks of the ingest replicas differ.
const DAYS: [i64; 6] = [0, 1, -1, 2, -2, 3];

/// Pauses at the start: while Postgres is away, and while somebody holds what making a partition needs for itself.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
const BUSY_PAUSE: Duration = Duration::from_secs(2);

/// How long a try at the start may take. Other workers' turns at the same are part of it.
const PREPARE_LIMIT: Duration = Duration::from_mins(2);

/// Held while partitions are made or dropped: one worker at a time.
const ADVISORY_LOCK: i64 = 0x7065_6e73_746f_636b;

/// Taking a partition out of its table needs the table for itself, for a moment, and adding one the default partition,
/// which is looked through for rows of that day. Readers and writers queue up behind whoever waits for that, so the wait
/// is short, and the next maintenance tries again.
const LOCK_TIMEOUT: &str = "set local lock_timeout = '500ms'";

/// SQLSTATEs: the table stayed busy; the default partition holds rows that belong into a new one.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const CHECK_VIOLATION: &str = "23514";

/// Makes the partitions that must be there before the first event, however long Postgres is away or today's cannot be
/// made. False when the stop came first.
///
/// # Errors
/// When Postgres refuses for another reason than being away: it was not migrated, for example.
pub async fn prepare(pool: &PgPool, stop: &CancellationToken) -> anyhow::Result<bool> {
    loop {
        let pause = match within(PREPARE_LIMIT, make_around_now(pool)).await {
            Ok(true) => return Ok(true),
            Ok(false) => BUSY_PAUSE,
            Err(error) if shared::db::is_transient(&error) => {
                tracing::warn!(%error, "Postgres is not ready, trying again");
                RETRY_PAUSE
            }
            Err(error) => {
                return Err(
                    anyhow::Error::from(error).context("cannot make partitions; was the database migrated?")
                );
            }
        };
        if stop
            .run_until_cancelled(tokio::time::sleep(pause))
            .await
            .is_none()
        {
            return Ok(false);
        }
    }
}

async fn make_around_now(pool: &PgPool) -> Result<bool, sqlx::Error> {
    make(pool, now(pool).await?).await
}

/// Postgres's time. The clock of one worker may be wrong, and what it dropped by that would be gone for all.
///
/// # Errors
/// When Postgres does not answer.
pub async fn now(pool: &PgPool) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(r#"select now() as "now!""#)
        .fetch_one(pool)
        .await
}

/// Makes the partitions of the days around `today`, as far as their tables are not busy. Whether today's are there.
///
/// # Errors
/// When Postgres does not answer.
pub async fn make(pool: &PgPool, today: OffsetDateTime) -> Result<bool, sqlx::Error> {
    let mut has_today = true;
    for table in TABLES {
        for offset in DAYS {
            match make_partition(pool, table, today + time::Duration::days(offset)).await {
                Ok(()) => {}
                Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => {
                    tracing::warn!(table, "the table is busy, its next partitions are made later");
                    has_today &= offset != 0;
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(has_today)
}

/// Drops the partitions of days that ended before `cutoff`. A day with a pending delivery stays as a whole, and so does
/// one whose table is busy.
///
/// # Errors
/// When Postgres does not answer.
pub async fn drop_before(pool: &PgPool, cutoff: OffsetDateTime) -> Result<(), sqlx::Error> {
    let suffixes = sqlx::query_scalar!(
        r#"select distinct right(c.relname, 8) as "suffix!"
           from pg_inherits i join pg_class c on c.oid = i.inhrelid
           where i.inhparent = any(array['events', 'deliveries', 'attempts', 'inbox_acknowledgements']::regclass[])
             and c.relname ~ '_[0-9]{8}$'
           order by 1"#
    )
    .fetch_all(pool)
    .await?;
    let first_kept = suffix(cutoff);
    for day in suffixes.iter().filter(|day| **day < first_kept) {
        // Deliveries first: while they are there, nothing else of their day goes.
        for table in ["deliveries", "attempts", "inbox_acknowledgements", "events"] {
            match drop_partition(pool, table, day).await {
                Ok(Dropped::Done) => {}
                Ok(Dropped::Pending) => {
                    tracing::warn!(day, "deliveries are still pending, the day's partitions are kept");
                    break;
                }
                Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => {
                    tracing::info!(
                        table,
                        day,
                        "the table is busy, its old partition is dropped later"
                    );
                    break;
                }
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

enum Dropped {
    /// It is gone, or was gone already.
    Done,
    /// It holds a pending delivery.
    Pending,
}

/// `day` is the end of the partition's name.
async fn drop_partition(pool: &PgPool, table: &str, day: &str) -> Result<Dropped, sqlx::Error> {
    let name = format!("{table}_{day}");
    let mut transaction = pool.begin().await?;
    lock(&mut transaction).await?;
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    if !exists(&mut transaction, &name).await? {
        return Ok(Dropped::Done);
    }
    // The names are the catalogue's, ending in digits.
    let detach = format!("alter table {table} detach partition {name}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(detach))
        .execute(&mut *transaction)
        .await?;
    if table == "deliveries" {
        // Nobody else reaches the rows now. Leaving rolls the detachment back. One look into each index of pending ones.
        let pending = format!(
            "select exists (select from {name} where status = 'pending' and not pull and ordering_key is null)
                 or exists (select from {name} where status = 'pending' and pull)
                 or exists (select from {name} where status = 'pending' and ordering_key is not null)"
        );
        let pending: bool = sqlx::query_scalar(sqlx::AssertSqlSafe(pending))
            .fetch_one(&mut *transaction)
            .await?;
        if pending {
            return Ok(Dropped::Pending);
        }
    }
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop table {name}")))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    tracing::info!(partition = name, "dropped an old partition");
    Ok(Dropped::Done)
}

fn has_code(error: &sqlx::Error, code: &str) -> bool {
    let found = error
        .as_database_error()
        .and_then(sqlx::error::DatabaseError::code);
    found.is_some_and(|found| found == code)
}

fn suffix(day: OffsetDateTime) -> String {
    day.date()
        .format(format_description!("[year][month][day]"))
        .expect("a date has these parts")
}

async fn lock(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    sqlx::query!("select pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        .execute(connection)
        .await?;
    Ok(())
}

async fn exists(connection: &mut PgConnection, name: &str) -> Result<bool, sqlx::Error> {
    sqlx::query_scalar!(r#"select to_regclass($1) is not null as "there!""#, name)
        .fetch_one(connection)
        .await
}

/// Makes one day's partition unless it is there. It is made beside the table and then attached: that needs no lock
/// against readers and writers of the other days, but one against those of the default partition.
async fn make_partition(pool: &PgPool, table: &str, day: OffsetDateTime) -> Result<(), sqlx::Error> {
    let (from, to) = (day.date(), (day + time::Duration::days(1)).date());
    let name = format!("{table}_{}", suffix(day));
    let mut transaction = pool.begin().await?;
    lock(&mut transaction).await?;
    if exists(&mut transaction, &name).await? {
        return Ok(());
    }
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    let statements = format!(
        "create table {name} (like {table} including all);
         alter table {table} attach partition {name} for values from ('{from}T00:00:00Z') to ('{to}T00:00:00Z');"
    );
    // The names are made here, of digits and constants.
    match sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(&mut *transaction)
        .await
    {
        Ok(_) => transaction.commit().await,
        Err(error) if has_code(&error, CHECK_VIOLATION) => {
            tracing::warn!(
                table,
                day = suffix(day),
                "rows of this day are in the default partition, and the day stays there"
            );
            Ok(())
        }
        Err(error) => Err(error),
    }
}
