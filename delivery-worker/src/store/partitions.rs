//! The daily partitions of the big tables: made ahead of time, and dropped when they are older than the retention.

use std::time::Duration;

use shared::db::limited::within;
use sqlx::{PgConnection, PgExecutor, PgPool};
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

/// Most rows of a table that are moved out of its default partition into one that is made for their day, and how long that
/// may take: the default partition is closed meanwhile.
const MAX_MOVED: i64 = 10_000;
const MOVE_TIMEOUT: &str = "5s";

/// SQLSTATEs: the table stayed busy; the default partition holds rows that belong into a new one; a statement took too
/// long.
const LOCK_NOT_AVAILABLE: &str = "55P03";
const CHECK_VIOLATION: &str = "23514";
const QUERY_CANCELED: &str = "57014";

/// Makes the partitions that must be there before the first event, however long Postgres is away or today's cannot be
/// made. False when the stop came first.
///
/// # Errors
/// When Postgres refuses for another reason than being away: it was not migrated, for example.
pub(crate) async fn prepare(pool: &PgPool, stop: &CancellationToken) -> anyhow::Result<bool> {
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
pub(crate) async fn now(database: impl PgExecutor<'_>) -> Result<OffsetDateTime, sqlx::Error> {
    sqlx::query_scalar!(r#"select now() as "now!""#)
        .fetch_one(database)
        .await
}

/// Makes the partitions of the days around `today`, as far as their tables are not busy. Whether today's are there.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn make(pool: &PgPool, today: OffsetDateTime) -> Result<bool, sqlx::Error> {
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
/// one of whose tables one is busy. Returns how many days stay because of pending deliveries.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn drop_before(pool: &PgPool, cutoff: OffsetDateTime) -> Result<u32, sqlx::Error> {
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
    let mut kept = 0;
    for day in suffixes.iter().filter(|day| **day < first_kept) {
        match drop_day(pool, day).await {
            Ok(Dropped::Done) => tracing::info!(day, "dropped the partitions of an old day"),
            Ok(Dropped::Pending) => {
                kept += 1;
                tracing::warn!(day, "deliveries are still pending, the day's partitions are kept");
            }
            Err(error) if has_code(&error, LOCK_NOT_AVAILABLE) => {
                tracing::info!(day, "a table is busy, the old day's partitions are dropped later");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(kept)
}

enum Dropped {
    /// It is gone, or was gone already.
    Done,
    /// It holds a pending delivery.
    Pending,
}

/// Drops the partitions that a day has, all or none: without its deliveries an event would be shown, and could be
/// replayed, whose attempts are still counted. `day` is the end of the partitions' names.
async fn drop_day(pool: &PgPool, day: &str) -> Result<Dropped, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    lock(&mut transaction).await?;
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    let tables = tables_with(&mut transaction, day).await?;
    // Where the day has no partition of deliveries, they are in the default one; otherwise they cannot be.
    let deliveries = if tables.contains(&"deliveries") {
        (format!("deliveries_{day}"), "true".to_owned())
    } else {
        let of_day = format!("accepted_at >= '{day}T00:00:00Z' and accepted_at < '{day}T24:00:00Z'");
        ("deliveries_default".to_owned(), of_day)
    };
    // Before the tables are taken from everybody else, for a day that stays anyway.
    if has_pending(&mut transaction, &deliveries).await? {
        return Ok(Dropped::Pending);
    }
    // Events come first: a replay holds its event, and then wants to write its delivery.
    let detach = tables
        .iter()
        .map(|table| format!("alter table {table} detach partition {table}_{day};"));
    execute(&mut transaction, detach.collect()).await?;
    // Nobody else reaches the rows now. Leaving rolls the detachments back.
    if has_pending(&mut transaction, &deliveries).await? {
        return Ok(Dropped::Pending);
    }
    let drop = tables.iter().map(|table| format!("drop table {table}_{day};"));
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

/// Runs statements made of names that are the catalogue's or made here, of digits and constants.
async fn execute(connection: &mut PgConnection, statements: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(connection)
        .await?;
    Ok(())
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
/// against readers and writers of the other days, but one against those of the default partition. Rows of that day that
/// are in the default one, because a clock was wrong, are moved, if they are few.
async fn make_partition(pool: &PgPool, table: &str, day: OffsetDateTime) -> Result<(), sqlx::Error> {
    let (from, to) = (day.date(), (day + time::Duration::days(1)).date());
    let name = format!("{table}_{}", suffix(day));
    let mut transaction = pool.begin().await?;
    lock(&mut transaction).await?;
    if exists(&mut transaction, &name).await? {
        return Ok(());
    }
    sqlx::raw_sql(LOCK_TIMEOUT).execute(&mut *transaction).await?;
    let of_day = format!("accepted_at >= '{from}T00:00:00Z' and accepted_at < '{to}T00:00:00Z'");
    let misdated = count_misdated(&mut transaction, table, &of_day).await?;
    let stays = || {
        tracing::warn!(
            table,
            day = suffix(day),
            "rows of this day are in the default partition, and the day stays there"
        );
    };
    if misdated > MAX_MOVED {
        stays();
        return Ok(());
    }
    let rows = if misdated == 0 {
        String::new()
    } else {
        format!(
            "lock table {table}_default in access exclusive mode;
             set local statement_timeout = '{MOVE_TIMEOUT}';
             with moved as (delete from {table}_default where {of_day} returning *)
             insert into {name} select * from moved;
             set local statement_timeout to default;"
        )
    };
    let statements = format!(
        "create table {name} (like {table} including all);
         {rows}
         alter table {table} attach partition {name} for values from ('{from}T00:00:00Z') to ('{to}T00:00:00Z');"
    );
    match execute(&mut transaction, statements).await {
        Ok(()) => transaction.commit().await?,
        // Further rows came in between, or they are large.
        Err(error) if has_code(&error, CHECK_VIOLATION) || has_code(&error, QUERY_CANCELED) => {
            stays();
            return Ok(());
        }
        Err(error) => return Err(error),
    }
    if misdated > 0 {
        tracing::info!(
            partition = name,
            rows = misdated,
            "moved rows out of the default partition into that of their day"
        );
    }
    Ok(())
}

/// How many rows of the default partition belong to a day; no more than one above [`MAX_MOVED`] are counted.
async fn count_misdated(
    connection: &mut PgConnection,
    table: &str,
    of_day: &str,
) -> Result<i64, sqlx::Error> {
    let query = format!(
        "select count(*) from (select from {table}_default where {of_day} limit {MAX_MOVED} + 1) misdated"
    );
    sqlx::query_scalar(sqlx::AssertSqlSafe(query))
        .persistent(false)
        .fetch_one(connection)
        .await
}
