//! The workers that run.

use time::OffsetDateTime;
use uuid::Uuid;

use crate::store::{Result, Store};

/// Most workers that are told.
const MOST: i64 = 1_000;

/// A worker, as it says itself.
#[derive(Debug)]
pub(crate) struct WorkerRow {
    pub id: Uuid,
    pub version: String,
    pub started_at: OffsetDateTime,
    pub last_seen_at: OffsetDateTime,
}

impl Store {
    /// The workers that said in the last minute that they run, the first one to start first. Each says so every 15 seconds.
    pub(crate) async fn seen_workers(&self) -> Result<Vec<WorkerRow>> {
        let rows = sqlx::query_as!(
            WorkerRow,
            "select id, version, started_at, last_seen_at from workers
             where last_seen_at > now() - interval '1 minute' order by started_at, id limit $1",
            MOST,
        );
        rows.fetch_all(&self.pool).await
    }
}
