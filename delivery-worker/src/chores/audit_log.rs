//! The audit log: removing what is too old, and writing it to stdout for whoever collects it there.

use std::time::Duration;

use shared::process::output::print;
use sqlx::PgPool;
use time::OffsetDateTime;
use uuid::Uuid;

/// Time between two looks for new entries.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Entries that one transaction removes or writes.
const STEP: i64 = 1_000;

/// Removes the entries from before `cutoff`.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn remove_before(pool: &PgPool, cutoff: OffsetDateTime) -> Result<(), sqlx::Error> {
    loop {
        let mut transaction = pool.begin().await?;
        // The trigger that keeps all others from it looks for this.
        sqlx::query!("select set_config('penstock.audit_retention', 'on', true)")
            .fetch_one(&mut *transaction)
            .await?;
        let removed = sqlx::query!(
            "delete from audit_log where id in (select id from audit_log where at < $1 order by at limit $2)",
            cutoff,
            STEP,
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        if i64::try_from(removed.rows_affected()).unwrap_or(i64::MAX) < STEP {
            return Ok(());
        }
    }
}

/// Writes the entries to stdout that no worker has written yet, a JSON object a line. One worker at a time does it; an entry is
/// written again when a worker dies before it has noted that.
///
/// # Errors
/// When Postgres does not answer.
pub(crate) async fn write_out(pool: &PgPool) -> Result<(), sqlx::Error> {
    while write_some(pool).await? {}
    Ok(())
}

/// True when there may be more.
async fn write_some(pool: &PgPool) -> Result<bool, sqlx::Error> {
    let mut transaction = pool.begin().await?;
    let position = sqlx::query!("select transaction, id from audit_log_output for update skip locked")
        .fetch_optional(&mut *transaction)
        .await?;
    let Some(position) = position else {
        return Ok(false);
    };
    let rows = sqlx::query!(
        r#"select transaction, id,
                  json_build_object(
                      'id', id,
                      -- As `shared::domain::clock::Timestamp` writes it.
                      'at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'),
                      'organization_id', org_id, 'tenant', tenant, 'actor', actor, 'address', address, 'kind', kind,
                      'subject', subject, 'action', action, 'before', before, 'after', after
                  )::text as "line!"
           from audit_log
           where (transaction, id) > ($1, $2)
             -- An earlier one may still commit.
             and transaction < pg_snapshot_xmin(pg_current_snapshot())::text::bigint
           order by transaction, id limit $3"#,
        position.transaction,
        position.id,
        STEP,
    )
    .fetch_all(&mut *transaction)
    .await?;
    let Some(last) = rows.last() else {
        return Ok(false);
    };
    let lines: String = rows.iter().flat_map(|row| [row.line.as_str(), "\n"]).collect();
    if let Err(error) = print(&lines).await {
        tracing::warn!(
            error = format!("{error:#}"),
            "cannot write the audit log out, trying again"
        );
        return Ok(false);
    }
    note(&mut transaction, last.transaction, last.id).await?;
    transaction.commit().await?;
    Ok(rows.len() >= usize::try_from(STEP).unwrap_or(usize::MAX))
}

async fn note(connection: &mut sqlx::PgConnection, transaction: i64, id: Uuid) -> Result<(), sqlx::Error> {
    sqlx::query!(
        "update audit_log_output set transaction = $1, id = $2",
        transaction,
        id
    )
    .execute(connection)
    .await?;
    Ok(())
}
