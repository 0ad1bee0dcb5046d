//! Chores: work that any worker repeats now and then.
//!
//! Imports `store` and `endpoints`, and of `intake` how far the streams are stored.

mod rounds;
pub(crate) mod notices;
pub(crate) mod recoveries;
pub(crate) mod unacknowledged;
pub(crate) mod certificates;
pub(crate) mod usage;
pub(crate) mod quotas;
pub(crate) mod retention;
pub(crate) mod audit_log;
pub(crate) mod endpoint_hours;
pub(crate) mod presence;
mod deleted;

use std::sync::Arc;

use shared::process::nats::Nats;
use shared::process::replicas::Replicas;
use shared::process::shutdown::Tasks;
use sqlx::PgPool;

use self::rounds::{LIMIT, repeat, take_turns};
use crate::chores::retention::RetentionConfig;
use crate::endpoints::attempt_counts::AttemptCounts;
use crate::endpoints::directory::Directory;
use crate::endpoints::permits::Permits;
use crate::store::usage::late::CountedThrough;

/// What the chores work with that any worker may do.
pub(crate) struct Chores {
    pub pool: PgPool,
    pub nats: Nats,
    pub directory: Arc<Directory>,
    pub permits: Permits,
    pub retention: RetentionConfig,
    /// Up to when usage is counted.
    pub counted: Arc<CountedThrough>,
    /// How many workers run.
    pub workers: Replicas,
}

impl Chores {
    /// Starts all of them.
    pub(crate) fn start(self, tasks: &Tasks) {
        self.tell_and_recover(tasks);
        self.remove(tasks);
        self.count(tasks);
        self.keep_up(tasks);
    }

    fn tell_and_recover(&self, tasks: &Tasks) {
        let stop = tasks.stop();

        let (name, db, workers) = ("operational events", self.pool.clone(), self.workers.clone());
        let (directory, wake) = (self.directory.clone(), self.permits.clone());
        let store = async move || notices::store(&db, &directory, &wake).await;
        let rounds = take_turns(name, notices::INTERVAL, workers, stop.clone(), store);
        tasks.spawn_long_lived(name, rounds);

        let (name, db, workers) = ("recoveries", self.pool.clone(), self.workers.clone());
        let wake = self.permits.clone();
        let recover = async move || recoveries::take_steps(&db, &wake).await;
        let rounds = take_turns(name, recoveries::INTERVAL, workers, stop.clone(), recover);
        tasks.spawn_long_lived(name, rounds);

        let (name, db, workers) = (
            "unacknowledged deliveries",
            self.pool.clone(),
            self.workers.clone(),
        );
        let end = async move || unacknowledged::end_deliveries(&db).await;
        let rounds = take_turns(name, unacknowledged::INTERVAL, workers, stop.clone(), end);
        tasks.spawn_long_lived(name, rounds);
    }

    /// What is left of what was deleted.
    fn remove(&self, tasks: &Tasks) {
        let stop = tasks.stop();

        let (name, db, workers) = ("deleted endpoints", self.pool.clone(), self.workers.clone());
        let ending = deleted::endpoints::Ending::default();
        let end = async move || ending.take_round(&db).await;
        let rounds = take_turns(name, deleted::endpoints::INTERVAL, workers, stop.clone(), end);
        tasks.spawn_long_lived(name, rounds);

        let (name, db, workers) = (
            "deleted tenants and organisations",
            self.pool.clone(),
            self.workers.clone(),
        );
        let nats = self.nats.clone();
        let remove = async move || {
            let tenants = deleted::tenants::take_round(&db, &nats).await?;
            let organizations = deleted::organizations::take_round(&db, &nats).await?;
            Ok::<_, sqlx::Error>(tenants || organizations)
        };
        let rounds = take_turns(name, deleted::tenants::INTERVAL, workers, stop.clone(), remove);
        tasks.spawn_long_lived(name, rounds);
    }

    /// Usage and quotas. Each worker knows for itself up to when usage is counted.
    fn count(&self, tasks: &Tasks) {
        let stop = tasks.stop();

        let (name, db, streams) = ("usage", self.pool.clone(), self.nats.clone());
        let (retention, counted) = (self.retention, self.counted.clone());
        let count = async move || usage::take_round(&db, &streams, retention, &counted).await;
        let rounds = repeat(name, usage::INTERVAL, usage::LIMIT, stop.clone(), count);
        tasks.spawn_long_lived(name, rounds);

        let (name, db, workers) = ("quotas", self.pool.clone(), self.workers.clone());
        let nats = self.nats.clone();
        let measure = async move || quotas::take_round(&db, &nats).await;
        let rounds = take_turns(name, quotas::INTERVAL, workers, stop.clone(), measure);
        tasks.spawn_long_lived(name, rounds);
    }

    /// What is seldom due, and the audit log, which only some of the workers may write out.
    fn keep_up(self, tasks: &Tasks) {
        let (stop, retention) = (tasks.stop(), self.retention);

        let (name, db) = ("client certificates", self.pool.clone());
        let tell = async move || certificates::tell(&db).await;
        let rounds = repeat(name, certificates::INTERVAL, LIMIT, stop.clone(), tell);
        tasks.spawn_long_lived(name, rounds);

        if retention.audit_log_stdout {
            let (name, db) = ("audit log", self.pool.clone());
            let write = async move || audit_log::write_out(&db).await;
            let rounds = repeat(name, audit_log::INTERVAL, LIMIT, stop.clone(), write);
            tasks.spawn_long_lived(name, rounds);
        }

        let (name, db, nats) = ("retention", self.pool, self.nats);
        let maintain = async move || retention::maintain(&db, &nats, retention).await;
        let rounds = repeat(
            name,
            retention::INTERVAL,
            retention::LIMIT,
            stop.clone(),
            maintain,
        );
        tasks.spawn_long_lived(name, rounds);
    }
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
