//! The Postgres connection pool and the migrations, the same for both services.

use std::time::Duration;

use anyhow::Context;
use backon::{ExponentialBuilder, Retryable};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool};

use crate::limited::within;

/// How long a request for a connection may wait before it fails: Postgres is away or the pool is too small.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long Postgres may take to say that an idle connection still works. Within [`ACQUIRE_TIMEOUT`] there is time for a
/// new one.
const IDLE_PING_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a connection that is given back may still be busy with a statement that nobody waits for any more. Postgres
/// notices some seconds later that a connection was closed, and runs its statement until then.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(10);

/// Server parameters of a service's sessions. The planner must take the indexes: the statements touch few rows of
/// tables that grow large, and a fresh partition without statistics would tempt it to read the whole. Generic plans
/// save planning every statement for every partition: 20 ms with forty of them, for a statement that takes 3. A process that
/// stands still within a transaction does not keep the rows that it has locked, and a statement ends when its connection is
/// closed: otherwise there would be more and more of those that nobody waits for.
pub const SESSION_SETTINGS: &[(&str, &str)] = &[
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    ("plan_cache_mode", "force_generic_plan"),
    ("jit", "off"),
    ("idle_in_transaction_session_timeout", "30000"),
    ("client_connection_check_interval", "5000"),
];

/// A pool that connects when it is first used, so that a service starts while Postgres is away. `application` is what
/// Postgres lists its sessions as; `settings` are their server parameters.
///
/// # Errors
/// When `url` is not a Postgres URL.
pub fn pool(
    application: &str,
    url: &str,
    max_connections: u32,
    settings: &[(&str, &str)],
) -> anyhow::Result<PgPool> {
    let options: PgConnectOptions = url.parse().context("DATABASE_URL is not a Postgres URL")?;
    let options = options
        .application_name(application)
        .options(settings.iter().copied());
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // The pool's own look has no limit: a connection to a host that has vanished would keep its place for ever.
        .test_before_acquire(false)
        .before_acquire(|connection, _| Box::pin(works(connection, IDLE_PING_TIMEOUT)))
        .after_release(|connection, _| Box::pin(works(connection, RELEASE_TIMEOUT)))
        .connect_lazy_with(options))
}

/// Whether a connection works; an error, upon which the pool closes it, when it does not.
async fn works(connection: &mut PgConnection, limit: Duration) -> Result<bool, sqlx::Error> {
    within(limit, connection.ping()).await.map(|()| true)
}

/// A pool whose first connection has succeeded, tried for about half a minute.
///
/// # Errors
/// When `url` is not a Postgres URL or Postgres could not be reached in that time.
pub async fn connect(application: &str, url: &str, max_connections: u32) -> anyhow::Result<PgPool> {
    let pool = pool(application, url, max_connections, &[])?;
    let backoff = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(50))
        .with_max_delay(Duration::from_secs(2))
        .with_max_times(18)
        .with_jitter();
    (|| pool.acquire())
        .retry(backoff)
        .when(|error| !matches!(error, sqlx::Error::Configuration(_)))
        .notify(|error, after| tracing::warn!(%error, ?after, "Postgres is not reachable, trying again"))
        .await
        .context("Postgres is not reachable")?;
    Ok(pool)
}

/// Brings the database to this build's schema. Several processes may call it at once: they take turns.
///
/// # Errors
/// When a migration fails or an applied one was changed afterwards.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    sqlx::migrate!("../migrations")
        .run(pool)
        .await
        .context("migration failed")
}

/// Whether the server refused a statement because it is starting, stopping or in recovery (SQLSTATE class 57P
/// and 25006): nothing is wrong with the statement.
pub fn is_shutting_down(error: &dyn sqlx::error::DatabaseError) -> bool {
    error
        .code()
        .is_some_and(|code| code.starts_with("57P") || code == "25006")
}

/// SQLSTATEs of a statement that was stopped from outside: somebody cancelled it, or its time was over; it did not get a
/// lock in time; its transaction had stood still for too long.
const STOPPED: [&str; 3] = ["57014", "55P03", "25P03"];

/// Whether the same statement may succeed later: Postgres is away, restarting, out of connections, chose this
/// transaction to break a deadlock, or was told to stop it.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            // Connection exceptions, insufficient resources, serialization failure and deadlock.
            is_shutting_down(error.as_ref())
                || STOPPED.contains(&code.as_ref())
                || ["08", "53", "40"].iter().any(|class| code.starts_with(class))
        }
        _ => false,
    }
}
