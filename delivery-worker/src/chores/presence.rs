//! Says now and then that this worker runs, for operators: `GET /admin/v1/stats` lists those that were seen lately.

use std::sync::Arc;
use std::time::{Duration, Instant};

use shared::db::limited::within;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::repeat;

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

/// Lists the worker until the stop, and then no more.
///
/// # Errors
/// When Postgres refuses a statement for another reason than being away.
pub(crate) async fn keep(pool: PgPool, stop: CancellationToken) -> anyhow::Result<()> {
    let presence = Arc::new(Presence {
        id: Uuid::new_v4(),
        started: Instant::now(),
    });
    let (own, db) = (presence.clone(), pool.clone());
    let tell = async move || own.tell(&db).await;
    repeat("presence", INTERVAL, LIMIT, stop, tell).await?;
    if let Err(error) = within(END_WITHIN, presence.end(&pool)).await {
        tracing::debug!(%error, "the worker is listed for another minute");
    }
    Ok(())
}

impl Presence {
    /// Says that the worker runs, and takes those off the list that have not said so for long.
    async fn tell(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query!(
            "with gone as (
                 delete from workers where ctid in (
                     select ctid from workers where last_seen_at < now() - interval '5 minutes' and id <> $1
                     for update skip locked
                 )
             )
             insert into workers (id, version, started_at, last_seen_at)
             values ($1, $2, now() - $3::float8 * interval '1 second', now())
             on conflict (id) do update set last_seen_at = excluded.last_seen_at",
            self.id,
            env!("CARGO_PKG_VERSION"),
            self.started.elapsed().as_secs_f64(),
        )
        .execute(pool)
        .await?;
        Ok(())
    }

    async fn end(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query!("delete from workers where id = $1", self.id)
            .execute(pool)
            .await?;
        Ok(())
    }
}
