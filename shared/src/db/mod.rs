//! The Postgres connection pool and the migrations, the same for both services.
//!
//! Imports `domain` and `process`.

pub mod address;
pub mod limited;
#[cfg(feature = "queries")]
pub mod backlog;
#[cfg(feature = "queries")]
pub mod explain;

use std::time::Duration;

use anyhow::Context;
use backon::{ExponentialBuilder, Retryable};
use sqlx::error::DatabaseError;
use sqlx::migrate::Migrator;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgDatabaseError, PgPoolOptions};
use sqlx::{Connection as _, PgConnection, PgPool, Postgres};

use crate::db::address::PostgresConfig;
use crate::db::limited::within;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations");

/// How long a request for a connection may wait before it fails: Postgres is away or the pool is too small.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How long Postgres may take to say that an idle connection still works. Within [`ACQUIRE_TIMEOUT`] there is time for a
/// new one.
const IDLE_PING_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection that was given back this short a time ago worked then, so nobody asks again.
const SEEN_TO_WORK: Duration = Duration::from_secs(1);

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
/// When the address cannot be used.
pub fn pool(
    application: &str,
    address: &PostgresConfig,
    max_connections: u32,
    settings: &[(&str, &str)],
) -> anyhow::Result<PgPool> {
    let options = address
        .options()?
        .application_name(application)
        .options(settings.iter().copied());
    Ok(PgPoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        // The pool's own look has no limit: a connection to a host that has vanished would keep its place for ever.
        .test_before_acquire(false)
        .before_acquire(|connection, about| Box::pin(works_still(connection, about.idle_for)))
        .after_release(|connection, _| Box::pin(is_free(connection)))
        .connect_lazy_with(options))
}

/// Shows how many connections a pool has, of how many.
pub fn show_pool(name: &'static str, pool: &PgPool) {
    let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
    let in_use = pool.size().saturating_sub(idle);
    let most = pool.options().get_max_connections();
    metrics::gauge!("penstock_database_connections_in_use", "pool" => name).set(in_use);
    metrics::gauge!("penstock_database_connections_idle", "pool" => name).set(idle);
    metrics::gauge!("penstock_database_max_connections", "pool" => name).set(most);
}

/// Whether Postgres answers. It has three seconds, also for a new connection.
pub async fn answers(pool: &PgPool) -> bool {
    answering(pool).await.is_ok()
}

/// A connection over which Postgres has just answered.
///
/// # Errors
/// When it does not within three seconds.
async fn answering(pool: &PgPool) -> Result<PoolConnection<Postgres>, sqlx::Error> {
    // Boxed: it is large.
    let asking = Box::pin(async {
        let mut connection = pool.acquire().await?;
        connection.ping().await?;
        Ok::<_, sqlx::Error>(connection)
    });
    within(ACQUIRE_TIMEOUT, asking).await
}

/// Whether a connection that was not used for this long works; an error when it does not.
async fn works_still(connection: &mut PgConnection, idle: Duration) -> Result<bool, sqlx::Error> {
    if idle < SEEN_TO_WORK {
        return Ok(true);
    }
    works(connection, IDLE_PING_TIMEOUT).await
}

/// Whether a connection works; an error, upon which the pool closes it, when it does not.
async fn works(connection: &mut PgConnection, limit: Duration) -> Result<bool, sqlx::Error> {
    within(limit, connection.ping()).await.map(|()| true)
}

/// Whether a connection that was given back works, and ends a transaction that nobody has: sqlx does not know of one whose
/// beginning was dropped before Postgres had answered, as when a client hangs up. Whoever used the connection next would be in it.
/// Such a transaction is empty; commits do not count as rollbacks in Postgres's statistics.
async fn is_free(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    let ending = sqlx::raw_sql("begin; commit").execute(connection);
    within(RELEASE_TIMEOUT, ending).await.map(|_| true)
}

/// A pool whose first connection has succeeded, tried for about half a minute.
///
/// # Errors
/// When the address cannot be used or Postgres could not be reached in that time.
pub async fn connect(
    application: &str,
    address: &PostgresConfig,
    max_connections: u32,
) -> anyhow::Result<PgPool> {
    let pool = pool(application, address, max_connections, &[])?;
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

/// Changes when a migration is added or changed.
pub fn schema_digest() -> String {
    let mut hash = blake3::Hasher::new();
    for migration in MIGRATIONS.iter() {
        hash.update(&migration.checksum);
    }
    hash.finalize().to_hex()[..16].to_owned()
}

/// Brings the database to this build's schema. Several processes may call it at once: they take turns.
///
/// # Errors
/// When a migration fails or an applied one was changed afterwards.
pub async fn migrate(pool: &PgPool) -> anyhow::Result<()> {
    MIGRATIONS.run(pool).await.context("migration failed")
}

/// Whether the server refused a statement because it is starting, stopping or in recovery (SQLSTATE class 57P
/// and 25006): nothing is wrong with the statement.
pub fn is_shutting_down(error: &dyn DatabaseError) -> bool {
    error
        .code()
        .is_some_and(|code| code.starts_with("57P") || code == "25006")
}

/// Whether the server let nobody in: the password, the host or the database's name is not as it expects (SQLSTATE classes 28
/// and 3D). That is a setting, of this process or of Postgres.
pub fn is_locked_out(error: &dyn DatabaseError) -> bool {
    let code = error.code().unwrap_or_default();
    code.starts_with("28") || code.starts_with("3D")
}

/// Whether the same statement may succeed later, because nothing is wrong with it, with the tables or with the settings:
/// Postgres is away, restarting, out of connections or of disk, chose this transaction to break a deadlock, or was told to
/// stop it.
pub fn is_transient(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::WorkerCrashed
        | sqlx::Error::BeginFailed
        | sqlx::Error::Protocol(_) => true,
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default();
            is_transient_code(&code)
                || code == INSUFFICIENT_PRIVILEGE && !is_about_a_grant(error.as_ref())
                || code == INVALID_PASSWORD && address::may_password_change()
        }
        _ => false,
    }
}

/// Classes of SQLSTATEs (Appendix A of Postgres's manual) about the state that the server, its machine or the connection is
/// in: 08 connection exception, 40 transaction rollback, 53 insufficient resources (a full disk, among others), 57 operator
/// intervention, 58 system error, 72 snapshot too old, F0 configuration file, XX internal error. The last one is also what a
/// file that cannot be read or written comes to where Postgres has no code for the cause: a new session's `could not write
/// init file` on a full disk, for example.
const TRANSIENT_CLASSES: [&str; 8] = ["08", "40", "53", "57", "58", "72", "F0", "XX"];

/// Such states in classes that mean other things too: read only, as after a failover; a transaction that stood still or
/// lasted for too long; an object that is not ready, is in use, or is locked.
const TRANSIENT: [&str; 6] = ["25006", "25P03", "25P04", "55000", "55006", "55P03"];

const INSUFFICIENT_PRIVILEGE: &str = "42501";

const INVALID_PASSWORD: &str = "28P01";

fn is_transient_code(code: &str) -> bool {
    TRANSIENT.contains(&code) || TRANSIENT_CLASSES.iter().any(|class| code.starts_with(class))
}

/// Postgres has one code for a role that may not do something and for a file that its own process may not open, as on a disk
/// that has become read-only. The former is found where it looks at grants.
fn is_about_a_grant(error: &dyn DatabaseError) -> bool {
    let postgres = error.try_downcast_ref::<PgDatabaseError>();
    let file = postgres.and_then(PgDatabaseError::file);
    file.is_none_or(|file| file == "aclchk.c")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_passes_by_itself_is_waited_for_and_what_a_person_must_mend_is_not() {
        let passing = [
            "08000 08001 08003 08004 08006 08007 08P01",
            "25006 25P03 25P04",
            "40000 40001 40002 40003 40P01",
            "53000 53100 53200 53300 53400",
            "55000 55006 55P03",
            "57000 57014 57P01 57P02 57P03 57P04 57P05",
            "58000 58030 58P01 58P02 58P03",
            "72000 F0000 F0001 XX000 XX001 XX002",
        ];
        let lasting = [
            "0A000 21000 22012 22021 22P05 23502 23505 23514 25001 25P01 25P02",
            "28000 28P01 34000 3D000 3F000",
            "42501 42601 42703 42883 42P01 42P02 42P05 54000 54001 54011 55P02 P0001",
        ];
        let codes =
            |lines: &[&'static str]| lines.iter().flat_map(|line| line.split(' ')).collect::<Vec<_>>();
        for code in codes(&passing) {
            assert!(is_transient_code(code), "{code}");
        }
        for code in codes(&lasting) {
            assert!(!is_transient_code(code), "{code}");
        }
    }
}
