//! How long things are kept: the partitions of each day, payloads of organisations that keep them for a shorter time, and
//! small rows that are not needed any more.

mod payloads;
pub(crate) mod kept_days;

use std::time::Duration;

use clap::{ArgAction, Args};
use shared::process::config::duration_within;
use shared::process::nats::Nats;
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::chores::audit_log;
use crate::intake::consume::streams::stored_through;
use crate::store::partitions;
use crate::store::usage::days::merge_days;
use crate::store::usage::removal;

/// Time between two rounds.
pub(crate) const INTERVAL: Duration = Duration::from_hours(1);

/// How long a round may take: it looks at everything that organisations keep, and makes the partitions of the next days.
pub(crate) const LIMIT: Duration = Duration::from_hours(6);

/// Events that one statement looks at.
const STEP: i64 = 1_000;

/// Age after which an idempotency key is forgotten. A repeat comes up to 24 hours after the key's event, and a bit later by another
/// clock.
const KEY_AGE: Duration = Duration::from_hours(25);

/// The shortest retention: partitions are made for two days back. The longest, a thousand years, goes back to a date that both
/// this program and Postgres can hold.
const MIN_RETENTION: Duration = Duration::from_hours(48);
const MAX_RETENTION: Duration = Duration::from_secs(1_000 * 31_557_600);

/// How long things are kept.
#[derive(Args, Clone, Copy, Debug)]
pub struct RetentionConfig {
    /// Age after which a day's events, deliveries and attempts are dropped, 2days to 1000years. A day with a pending
    /// delivery stays.
    #[arg(long, env, value_name = "RETENTION", default_value = "30days", value_parser = retention)]
    pub retention: Duration,

    /// Age after which entries of the audit log are removed, 2days to 1000years.
    #[arg(long, env, value_name = "AUDIT_RETENTION", default_value = "400days", value_parser = retention)]
    pub audit_retention: Duration,

    /// Whether entries of the audit log are written to stdout, a JSON object a line: each by one of the workers that are told
    /// so.
    #[arg(long, env, value_name = "AUDIT_LOG_STDOUT", action = ArgAction::Set, default_value_t = false)]
    pub audit_log_stdout: bool,

    /// Age after which counts of usage are removed, 2days to 1000years, and no less than `RETENTION`.
    #[arg(long, env, value_name = "USAGE_RETENTION", default_value = "400days", value_parser = retention)]
    pub usage_retention: Duration,
}

fn retention(text: &str) -> Result<Duration, String> {
    duration_within(text, &(MIN_RETENTION..=MAX_RETENTION))
}

/// One round: makes the next days' partitions, drops old ones when their usage is counted, and removes what is too old in what
/// stays, all by Postgres's time.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn maintain(pool: &PgPool, nats: &Nats, config: RetentionConfig) -> Result<(), sqlx::Error> {
    let now = partitions::now(pool).await?;
    let cutoff = now - config.retention;
    partitions::make(pool, now).await?;
    let old = partitions::drop_before(pool, cutoff).await?;
    let days = u32::try_from(old.kept.len()).unwrap_or(u32::MAX);
    metrics::gauge!("penstock_partitions_kept_past_retention").set(days);
    kept_days::tell(pool, &old.kept).await?;
    kept_days::forget_others(pool, &old.all).await?;
    merge_days(pool).await?;
    let usage_cutoff = now - config.usage_retention.max(config.retention);
    removal::remove_before(pool, now, usage_cutoff, cutoff).await?;
    empty_default_partitions(pool, cutoff).await?;
    payloads::remove(pool, now).await?;
    audit_log::remove_before(pool, now - config.audit_retention).await?;
    let keys = forget_keys(pool, nats, now).await?;
    let recoveries = sqlx::query!("delete from recoveries where finished_at < $1", cutoff)
        .execute(pool)
        .await?;
    let sessions = sqlx::query!(
        "delete from ended_sessions where ctid in (
             select ctid from ended_sessions where keep_until < now() for update skip locked
         )"
    )
    .execute(pool)
    .await?;
    // The API shows the last 24.
    let hours = sqlx::query!("delete from endpoint_hours where hour < now() - interval '25 hours'")
        .execute(pool)
        .await?;
    tracing::debug!(
        idempotency_keys = keys,
        recoveries = recoveries.rows_affected(),
        ended_sessions = sessions.rows_affected(),
        endpoint_hours = hours.rows_affected(),
        "removed old rows"
    );
    Ok(())
}

/// Forgets the idempotency keys whose repeats are all stored, and says how many. None while it is not known what lies in the
/// streams.
async fn forget_keys(pool: &PgPool, nats: &Nats, now: OffsetDateTime) -> Result<u64, sqlx::Error> {
    let Some(stored_through) = stored_through(nats, now).await else {
        return Ok(0);
    };
    let cutoff = stored_through - KEY_AGE;
    let keys = sqlx::query!("delete from idempotency_keys where accepted_at < $1", cutoff)
        .execute(pool)
        .await?;
    Ok(keys.rows_affected())
}

/// The default partitions hold what a wrong clock, or a long backlog, dated outside the days that have their own.
async fn empty_default_partitions(pool: &PgPool, cutoff: OffsetDateTime) -> Result<(), sqlx::Error> {
    loop {
        // Two statements, so that the second one sees what a replay wrote that held an event's row.
        let mut transaction = pool.begin().await?;
        let old = sqlx::query!(
            "select e.org_id, e.accepted_at, e.id from events_default e
             where e.accepted_at < $1 and not exists (
                 select from deliveries d
                 where d.event_id = e.id and d.accepted_at = e.accepted_at and d.status = 'pending'
             )
             limit $2 for update of e",
            cutoff,
            STEP,
        )
        .fetch_all(&mut *transaction)
        .await?;
        sqlx::query!(
            r#"
            with old as materialized (
                select * from unnest($1::uuid[], $2::timestamptz[], $3::uuid[]) as o (org_id, accepted_at, id)
                where not exists (
                    select from deliveries d
                    where d.event_id = o.id and d.accepted_at = o.accepted_at and d.status = 'pending'
                )
            ),
            attempts as (
                delete from attempts_default a using old o where a.event_id = o.id and a.accepted_at = o.accepted_at
            ),
            deliveries as (
                delete from deliveries_default d using old o where d.event_id = o.id and d.accepted_at = o.accepted_at
            ),
            acknowledgements as (
                delete from inbox_acknowledgements_default i using old o
                where i.org_id = o.org_id and i.accepted_at = o.accepted_at and i.event_id = o.id
            )
            delete from events_default e using old o
            where e.org_id = o.org_id and e.accepted_at = o.accepted_at and e.id = o.id
            "#,
            &old.iter().map(|event| event.org_id).collect::<Vec<_>>(),
            &old.iter().map(|event| event.accepted_at).collect::<Vec<_>>(),
            &old.iter().map(|event| event.id).collect::<Vec<_>>(),
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if i64::try_from(old.len()).unwrap_or(STEP) < STEP {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retention_below_two_days_or_beyond_the_calendar_is_refused() {
        assert_eq!(retention("2days"), Ok(MIN_RETENTION));
        assert_eq!(retention("1000years"), Ok(MAX_RETENTION));
        for outside in ["47h", "1001years"] {
            assert_eq!(retention(outside), Err("must be 2days to 1000years".to_owned()));
        }
        assert!(retention("soon").is_err());
    }
}
