//! What is pending, as all replicas see it.

use shared::db::backlog::{MAX_AGE_SECONDS, Pending};
use sqlx::Postgres;
use sqlx::pool::PoolConnection;

/// Reads what was counted lately, and counts when that is too old. Nothing when another replica counts for long.
///
/// # Errors
/// When Postgres does not answer, or has no migration that counts.
pub async fn read_backlog(mut connection: PoolConnection<Postgres>) -> Result<Vec<Pending>, sqlx::Error> {
    sqlx::query_as!(
        Pending,
        r#"
        select state as "state!", deliveries as "deliveries!", due_seconds
        from read_backlog($1::float8 * interval '1 second')
        "#,
        MAX_AGE_SECONDS,
    )
    .fetch_all(&mut *connection)
    .await
}
