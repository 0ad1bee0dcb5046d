//! Which failures of Postgres pass by themselves.

use sqlx::error::DatabaseError;

/// SQLSTATE of a statement that `statement_timeout` has ended.
const QUERY_CANCELED: &str = "57014";

/// SQLSTATE of a change whose API key was revoked while it waited, as the migrations raise it.
const KEY_REVOKED: &str = "PS001";

/// Classes of SQLSTATEs (Appendix A of Postgres's manual) about what a row holds: 22 data exception, 23 integrity constraint
/// violation, 54 program limit exceeded, P0 what a trigger raises.
const OF_ROWS: [&str; 4] = ["22", "23", "54", "P0"];

/// Seconds after which a request that Postgres could not serve is to be sent again.
pub(crate) const RETRY_AFTER: u64 = 2;

/// Why Postgres could not do it now, when a repeat may succeed. None when it would
/// fail again. The error itself is logged, since callers are only told the reason.
pub(crate) fn unavailable(error: &sqlx::Error) -> Option<&'static str> {
    let database = error.as_database_error();
    let code = database.and_then(DatabaseError::code);
    let reason = if code.as_deref() == Some(QUERY_CANCELED) {
        "the database took too long for this request"
    } else if code.as_deref() == Some(KEY_REVOKED) {
        "the API key was changed while the request came: send it again"
    } else if database.is_some_and(shared::db::is_shutting_down) {
        "the database is restarting"
    } else if shared::db::is_transient(error) || database.is_some_and(shared::db::is_locked_out) {
        "the database is not available"
    } else {
        return None;
    };
    tracing::warn!(%error, "Postgres did not do what a request needs");
    Some(reason)
}

/// Whether one row of a statement may be why Postgres refused it: without that row it may succeed.
pub(super) fn may_be_of_one_row(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| OF_ROWS.iter().any(|class| code.starts_with(class)))
}
