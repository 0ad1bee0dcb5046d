//! Says now and then that this worker runs, and counts those that do. `GET /admin/v1/stats` lists those that were seen lately,
//! and workers share chores and streams out by it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::db::limited::within;
use shared::process::replicas::Replicas;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::rounds::repeat;

/// Pause between two signs of life.
const INTERVAL: Duration = Duration::from_secs(15);

/// How long one may take.
const LIMIT: Duration = Duration::from_secs(10);

/// How long taking the worker off the list may take.
const END_WITHIN: Duration = Duration::from_secs(1);

/// This worker, as it is listed.
#[derive(Debug)]
struct Presence {
    id: Uuid,
    started: Instant,
}

/// Lists the worker until the stop, and then no more. Counts the `workers` whenever it says that it runs: another one that
/// starts or stops is noticed within [`INTERVAL`], and one that dies about a minute later.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away.
pub(crate) async fn keep(pool: PgPool, workers: Replicas, stop: CancellationToken) -> anyhow::Result<()> {
    let presence = Arc::new(Presence {
        id: Uuid::new_v4(),
        started: Instant::now(),
    });
    let (own, db) = (presence.clone(), pool.clone());
    let tell = async move || own.tell(&db, &workers).await;
    repeat("presence", INTERVAL, LIMIT, stop, tell).await?;
    if let Err(error) = within(END_WITHIN, presence.end(&pool)).await {
        tracing::debug!(%error, "the worker is listed for another minute");
    }
    Ok(())
}

impl Presence {
    /// Says that the worker runs, takes those off the list that have not said so for long, and counts those that have said so in
    /// the last minute.
    async fn tell(&self, pool: &PgPool, workers: &Replicas) -> Result<(), sqlx::Error> {
        let others = sqlx::query!(
            r#"with gone as (
                 delete from workers where ctid in (
                     select ctid from workers where last_seen_at < now() - interval '5 minutes' and id <> $1
                     for update skip locked
                 )
             ),
             told as (
                 insert into workers (id, version, started_at, last_seen_at)
                 values ($1, $2, now() - $3::float8 * interval '1 second', now())
                 on conflict (id) do update set last_seen_at = excluded.last_seen_at
             )
             select count(*) as "count!", count(*) filter (where id < $1) as "before!" from workers
             where last_seen_at > now() - interval '1 minute' and id <> $1"#,
            self.id,
            env!("CARGO_PKG_VERSION"),
            self.started.elapsed().as_secs_f64(),
        )
        .fetch_one(pool)
        .await?;
        let number = |count| u32::try_from(count).unwrap_or(u32::MAX);
        workers.set(number(others.count).saturating_add(1));
        workers.set_place(number(others.before));
        Ok(())
    }

    async fn end(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query!("delete from workers where id = $1", self.id)
            .execute(pool)
            .await?;
        Ok(())
    }
}
