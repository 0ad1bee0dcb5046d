//! The daily partitions of the big tables, made ahead of time, and the idempotency keys, dropped after a day.

use std::time::Duration;

use sqlx::PgPool;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio_util::sync::CancellationToken;

const TABLES: [&str; 4] = ["events", "deliveries", "attempts", "inbox_acknowledgements"];

/// Days before and after today that have partitions: events may come late out of a backlog, and the clocks of
/// the ingest replicas differ.
const DAYS_BEHIND: i64 = 2;
const DAYS_AHEAD: i64 = 3;

const INTERVAL: Duration = Duration::from_hours(1);
const RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Held while partitions are made: one worker at a time.
const ADVISORY_LOCK: i64 = 0x7065_6e73_746f_636b;

/// Makes partitions once an hour until the stop.
///
/// # Errors
/// Never yet; it returns a result because it runs as a long-lived task.
pub async fn keep(pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
    while stop
        .run_until_cancelled(tokio::time::sleep(INTERVAL))
        .await
        .is_some()
    {
        if let Err(error) = maintain(&pool).await {
            tracing::error!(
                error = format!("{error:#}"),
                "cannot make the next days' partitions"
            );
        }
    }
    Ok(())
}

/// Makes the partitions that must be there before the first event, however long Postgres is away. False when
/// the stop came first.
///
/// # Errors
/// When Postgres refuses for another reason than being away: it was not migrated, for example.
pub async fn prepare(pool: &PgPool, stop: &CancellationToken) -> anyhow::Result<bool> {
    loop {
        match maintain(pool).await {
            Ok(()) => return Ok(true),
            Err(error) if shared::db::is_transient(&error) => {
                tracing::warn!(%error, "Postgres is not ready, trying again");
                if stop
                    .run_until_cancelled(tokio::time::sleep(RETRY_PAUSE))
                    .await
                    .is_none()
                {
                    return Ok(false);
                }
            }
            Err(error) => {
                return Err(
                    anyhow::Error::from(error).context("cannot make partitions; was the database migrated?")
                );
            }
        }
    }
}

async fn maintain(pool: &PgPool) -> Result<(), sqlx::Error> {
    let today = shared::clock::UnixMicros::now().to_date_time();
    for offset in -DAYS_BEHIND..=DAYS_AHEAD {
        for table in TABLES {
            make_partition(pool, table, today + time::Duration::days(offset)).await?;
        }
    }
    let dropped =
        sqlx::query!("delete from idempotency_keys where accepted_at < now() - interval '25 hours'")
            .execute(pool)
            .await?;
    tracing::debug!(dropped = dropped.rows_affected(), "dropped old idempotency keys");
    Ok(())
}

/// Makes one day's partition unless it is there. It is filled in beside the table and then attached: that
/// needs no lock against readers and writers of the other partitions.
async fn make_partition(pool: &PgPool, table: &str, day: OffsetDateTime) -> Result<(), sqlx::Error> {
    let (from, to) = (day.date(), (day + time::Duration::days(1)).date());
    let suffix = from
        .format(format_description!("[year][month][day]"))
        .expect("a date has these parts");
    let name = format!("{table}_{suffix}");
    let mut transaction = pool.begin().await?;
    sqlx::query!("select pg_advisory_xact_lock($1)", ADVISORY_LOCK)
        .execute(&mut *transaction)
        .await?;
    let there = sqlx::query_scalar!(r#"select to_regclass($1) is not null as "there!""#, name);
    if there.fetch_one(&mut *transaction).await? {
        return Ok(());
    }
    let statements = format!(
        "create table {name} (like {table} including all);
         alter table {table} attach partition {name} for values from ('{from}T00:00:00Z') to ('{to}T00:00:00Z');"
    );
    // The names are made here, of digits and constants.
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}
