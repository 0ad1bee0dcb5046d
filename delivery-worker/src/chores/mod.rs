//! Chores: work that any worker repeats now and then.

pub(crate) mod notices;
pub(crate) mod recoveries;
pub(crate) mod deleted_endpoints;
mod erasing;
pub(crate) mod deleted_tenants;
pub(crate) mod deleted_organizations;
pub(crate) mod unacknowledged;
pub(crate) mod certificates;
pub(crate) mod usage;
pub(crate) mod quotas;
pub(crate) mod kept_days;
pub(crate) mod retention;
pub(crate) mod audit_log;
pub(crate) mod endpoint_hours;
pub(crate) mod presence;

use std::sync::Arc;
use std::time::Duration;

use shared::db::limited::within;
use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::shutdown::Tasks;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use crate::chores::retention::RetentionConfig;
use crate::endpoints::attempt_counts::AttemptCounts;
use crate::endpoints::directory::Directory;
use crate::endpoints::permits::Permits;
use crate::store::usage::late::CountedThrough;

/// How long a round of a chore may take, unless it has a limit of its own. Only the last statement is lost then.
const LIMIT: Duration = Duration::from_mins(2);

/// Starts all chores.
pub(crate) fn start(
    tasks: &Tasks,
    pool: &PgPool,
    nats: Nats,
    directory: Arc<Directory>,
    permits: Permits,
    retention: RetentionConfig,
    counted: Arc<CountedThrough>,
) {
    let stop = tasks.stop();
    count(tasks, pool, nats.clone(), retention, counted);

    let (name, db, wake) = ("operational events", pool.clone(), permits.clone());
    let store = async move || notices::store(&db, &directory, &wake).await;
    let rounds = repeat(name, notices::INTERVAL, LIMIT, stop.clone(), store);
    tasks.spawn_long_lived(name, rounds);

    let (name, db) = ("recoveries", pool.clone());
    let recover = async move || recoveries::take_steps(&db, &permits).await;
    let rounds = repeat(name, recoveries::INTERVAL, LIMIT, stop.clone(), recover);
    tasks.spawn_long_lived(name, rounds);

    let (name, db) = ("deleted endpoints", pool.clone());
    let ending = deleted_endpoints::Ending::default();
    let end = async move || ending.take_round(&db).await;
    let rounds = repeat(name, deleted_endpoints::INTERVAL, LIMIT, stop.clone(), end);
    tasks.spawn_long_lived(name, rounds);

    let (name, db) = ("deleted tenants and organisations", pool.clone());
    let remove = async move || {
        deleted_tenants::take_round(&db, &nats).await?;
        deleted_organizations::take_round(&db, &nats).await
    };
    let rounds = repeat(name, deleted_tenants::INTERVAL, LIMIT, stop.clone(), remove);
    tasks.spawn_long_lived(name, rounds);

    let (name, db) = ("unacknowledged deliveries", pool.clone());
    let end = async move || unacknowledged::end_deliveries(&db).await;
    let rounds = repeat(name, unacknowledged::INTERVAL, LIMIT, stop.clone(), end);
    tasks.spawn_long_lived(name, rounds);

    let (name, db) = ("client certificates", pool.clone());
    let tell = async move || certificates::tell(&db).await;
    let rounds = repeat(name, certificates::INTERVAL, LIMIT, stop.clone(), tell);
    tasks.spawn_long_lived(name, rounds);
    if retention.audit_log_stdout {
        let (name, db) = ("audit log", pool.clone());
        let write = async move || audit_log::write_out(&db).await;
        let rounds = repeat(name, audit_log::INTERVAL, LIMIT, stop.clone(), write);
        tasks.spawn_long_lived(name, rounds);
    }

    let (name, db) = ("retention", pool.clone());
    let maintain = async move || retention::maintain(&db, retention).await;
    let rounds = repeat(
        name,
        retention::INTERVAL,
        retention::LIMIT,
        stop.clone(),
        maintain,
    );
    tasks.spawn_long_lived(name, rounds);
}

/// Starts the chores that every worker does for itself: it writes what it has counted, says that it runs, and counts the `workers`.
pub(crate) fn start_own(tasks: &Tasks, pool: &PgPool, counts: Arc<AttemptCounts>, workers: Replicas) {
    let stop = tasks.stop();

    let (name, db) = ("endpoint hours", pool.clone());
    let rounds = endpoint_hours::Rounds::default();
    let write = async move || rounds.take(&db, &counts).await;
    let rounds = repeat(name, endpoint_hours::INTERVAL, LIMIT, stop.clone(), write);
    tasks.spawn_long_lived(name, rounds);

    let presence = presence::keep(pool.clone(), workers, stop.clone());
    tasks.spawn_long_lived("presence", presence);
}

/// Starts the chores that count usage and measure quotas.
fn count(tasks: &Tasks, pool: &PgPool, nats: Nats, retention: RetentionConfig, counted: Arc<CountedThrough>) {
    let stop = tasks.stop();

    let (name, db, streams) = ("usage", pool.clone(), nats.clone());
    let count = async move || usage::take_round(&db, &streams, retention, &counted).await;
    let rounds = repeat(name, usage::INTERVAL, usage::LIMIT, stop.clone(), count);
    tasks.spawn_long_lived(name, rounds);

    let (name, db) = ("quotas", pool.clone());
    let measure = async move || quotas::take_round(&db, &nats).await;
    let rounds = repeat(name, quotas::INTERVAL, LIMIT, stop.clone(), measure);
    tasks.spawn_long_lived(name, rounds);
}

/// Does `chore` at once and then at every `interval` until the stop. What fails because Postgres is away, or takes longer
/// than `limit`, is logged and left to the next time.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away: the worker is broken.
pub(crate) async fn repeat(
    name: &'static str,
    interval: Duration,
    limit: Duration,
    stop: CancellationToken,
    chore: impl AsyncFn() -> Result<(), sqlx::Error>,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(interval);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        match stop.run_until_cancelled(within(limit, chore())).await {
            None | Some(Ok(())) => {}
            Some(Err(error)) => pass_over(name, error.into())?,
        }
    }
    Ok(())
}

/// Logs why a task could not do its work this time; the task goes on.
///
/// # Errors
/// When Postgres has refused a statement for another reason than being away: the worker is broken.
pub(crate) fn pass_over(task: &'static str, error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast::<sqlx::Error>() {
        Ok(error) if shared::db::is_transient(&error) => {
            tracing::warn!(task, %error, "interrupted, trying again later");
        }
        Ok(error) => return Err(anyhow::Error::from(error).context(task)),
        // NATS is away, as the connection's own log says.
        Err(error) => tracing::debug!(
            task,
            error = format!("{error:#}"),
            "interrupted, trying again later"
        ),
    }
    Ok(())
}
