//! The daily partitions of the big tables: made ahead of time, and dropped when they are older than the retention.

mod dropping;

use std::time::Duration;

use shared::db::limited::within;
use sqlx::{PgConnection, PgExecutor, PgPool};
use time::format_description::StaticFormatDescription;
use time::macros::format_description;
use time::{Date, OffsetDateTime};
use tokio_util::sync::CancellationToken;

pub(crate) use self::dropping::drop_before;

const TABLES: [&str; 4] = ["events", "deliveries", "attempts", "inbox_acknowledgements"];

/// How the names of a day's partitions end.
const SUFFIX: StaticFormatDescription = format_description!("[year][month][day]");

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

/// Makes the partitions of the days around today by Postgres's time, as a worker does at its start, as far as their tables are
/// not busy. Whether today's are there.
///
/// # Errors
/// When Postgres does not answer, or was not migrated.
pub async fn make_around_now(pool: &PgPool) -> Result<bool, sqlx::Error> {
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

fn suffix(day: Date) -> String {
    day.format(SUFFIX).expect("a date has these parts")
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
    let name = format!("{table}_{}", suffix(from));
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
            day = suffix(from),
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
