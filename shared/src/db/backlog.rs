//! How many deliveries are pending and what keeps them, as any replica of either service sees it, and whether it reaches
//! Postgres at all. Postgres counts, in `read_backlog` of the migrations, for all replicas together.

use std::time::Duration;

use sqlx::pool::PoolConnection;
use sqlx::{PgPool, Postgres};
use tokio_util::sync::CancellationToken;

use crate::db::address::PostgresConfig;
use crate::db::limited::within;
use crate::db::{self, SESSION_SETTINGS};
use crate::process::replicas::Replicas;
use crate::process::telemetry::readings::Readings;
use crate::process::telemetry::{self, POSTGRES};
use crate::process::worker_backlog::{Part, WorkerBacklog};

/// How often a replica that is alone looks.
const INTERVAL: Duration = Duration::from_secs(2);

/// How long a count is good for the others, in seconds.
const MAX_AGE_SECONDS: f64 = 4.0;

/// How long counting may take. Where it takes longer, nothing is known.
const STATEMENT_TIMEOUT: &[(&str, &str)] = &[("statement_timeout", "8s")];

/// How long a look may take in all: Postgres may be gone without a word.
const PATIENCE: Duration = Duration::from_secs(10);

/// Up to how many deliveries of a state the gauges tell.
const MOST_SHOWN: u32 = 10_000;

/// The state of deliveries that workers could send now.
const DUE: &str = "due";

/// The pending deliveries of one state, as the migration lists the states.
struct Pending {
    /// What keeps them.
    state: String,
    /// How many there are. More than [`MOST_SHOWN`] stands for as many or more.
    deliveries: i64,
    /// For how many seconds the oldest of them has been due, if any is.
    due_seconds: Option<f64>,
}

/// A connection of its own, so that neither a busy service hides the backlog nor this look delays the service.
///
/// # Errors
/// When the address cannot be used.
pub fn pool(application: &str, address: &PostgresConfig) -> anyhow::Result<PgPool> {
    db::pool(
        application,
        address,
        1,
        &[SESSION_SETTINGS, STATEMENT_TIMEOUT].concat(),
    )
}

/// Keeps the gauges of the backlog, and `penstock_dependency_up` of Postgres, until the stop. What cannot be read is not shown.
/// Several `replicas` look less often each, unless Postgres does not answer.
///
/// # Errors
/// Never; it returns a result because it runs as a long-lived task.
pub async fn follow(
    pool: PgPool,
    readings: Readings,
    backlog: WorkerBacklog,
    replicas: Replicas,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut is_known = true;
    while !stop.is_cancelled() {
        let look = async {
            let answering = db::answering(&pool).await;
            telemetry::set_dependency(POSTGRES, answering.is_ok());
            within(PATIENCE, read(answering?)).await
        };
        match stop.run_until_cancelled(look).await {
            None => break,
            Some(Ok(pending)) => {
                is_known = true;
                show(&readings, &backlog, &pending);
            }
            Some(Err(error)) => {
                if std::mem::take(&mut is_known) {
                    tracing::info!(%error, "the backlog cannot be read; its gauges are not shown until it can");
                }
            }
        }
        let pause = if is_known {
            replicas.pause(INTERVAL)
        } else {
            INTERVAL
        };
        let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
    }
    Ok(())
}

/// Reads what was counted lately, and counts when that is too old. Empty when another replica counts for long.
async fn read(mut connection: PoolConnection<Postgres>) -> Result<Vec<Pending>, sqlx::Error> {
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

fn show(readings: &Readings, backlog: &WorkerBacklog, pending: &[Pending]) {
    for Pending {
        state,
        deliveries,
        due_seconds,
    } in pending
    {
        let count = u32::try_from(*deliveries).unwrap_or(MOST_SHOWN).min(MOST_SHOWN);
        readings.set_labelled("penstock_deliveries_pending", ("state", state), count.into());
        if state == DUE {
            let due_seconds = due_seconds.unwrap_or(0.0);
            readings.set("penstock_deliveries_due_for_seconds", due_seconds);
            backlog.set_table(Part {
                deliveries: count.into(),
                age: Duration::try_from_secs_f64(due_seconds).unwrap_or_default(),
            });
        }
    }
}
