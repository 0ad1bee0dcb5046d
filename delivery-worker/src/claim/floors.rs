//! How far each stream is stored: a worker has acknowledged every frame up to the floor. Ordered deliveries wait for it.
//!
//! An acknowledged frame is removed from its stream, so the floor stands just before the first frame that is left. A
//! stream that took the name of a deleted one starts again at the first sequence number; its floor is taken as it is,
//! also when it is lower. Deliveries of the deleted stream may go once the stream was seen empty after them: no frame that
//! was sent before them can still come.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::stream;
use shared::db::limited::LimitedPool;
use shared::process::nats::Nats;

use time::OffsetDateTime;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::chores;
use crate::endpoints::permits::Permits;
use crate::intake::consume::streams::event_streams;
use crate::store::partitions;
use crate::store::warm::WarmPool;

/// Pause between two looks at the streams, and the longest time without a look. Floors are written even when no delivery
/// waits for them, so that a stream that took the name of a deleted one is noticed.
const MIN_INTERVAL: Duration = Duration::from_millis(20);
const MAX_INTERVAL: Duration = Duration::from_secs(10);

/// How often the streams are looked at for one request: the acknowledgement of the last frame may be on its way.
const LOOKS: u32 = 5;

/// Asks for the floors on behalf of deliveries that wait only for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct FloorRequests(Arc<Notify>);

impl FloorRequests {
    /// Asks for a look at the streams soon. It wakes the claimer when a floor has changed.
    pub(crate) fn ask(&self) {
        self.0.notify_one();
    }
}

/// Keeps the floors.
#[derive(Debug)]
pub(crate) struct Floors {
    pub nats: Nats,
    pub database: WarmPool,
    /// Wakes the claimer.
    pub permits: Permits,
    /// What is asked for.
    pub requests: FloorRequests,
}

impl Floors {
    /// Writes floors that are asked for until the stop.
    ///
    /// # Errors
    /// When Postgres refuses a statement for another reason than being away: the worker is broken.
    pub(crate) async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        loop {
            for _ in 0..LOOKS {
                let Some(refreshed) = stop.run_until_cancelled(self.refresh()).await else {
                    return Ok(());
                };
                let changed = match refreshed {
                    Ok(changed) => changed,
                    Err(error) => {
                        chores::pass_over("floors", error)?;
                        false
                    }
                };
                if changed {
                    self.permits.wake_claimer();
                }
                let _ = stop.run_until_cancelled(tokio::time::sleep(MIN_INTERVAL)).await;
                if changed {
                    break;
                }
            }
            let asked = tokio::time::timeout(MAX_INTERVAL, self.requests.0.notified());
            if stop.run_until_cancelled(asked).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Whether a floor has changed.
    async fn refresh(&self) -> anyhow::Result<bool> {
        // Read before the streams are: whatever is stored by now was sent before the look at them.
        let now = partitions::now(self.database.pool()).await?;
        let streams = event_streams(&self.nats.jetstream()).await?;
        let floors: Vec<_> = streams.iter().map(|stream| Floor::of(stream, now)).collect();
        Ok(write(self.database.pool(), &floors).await?)
    }
}

struct Floor<'a> {
    stream: &'a str,
    stored_through: i64,
    drained_at: Option<OffsetDateTime>,
}

impl<'a> Floor<'a> {
    fn of(stream: &'a stream::Info, now: OffsetDateTime) -> Self {
        let is_empty = stream.state.messages == 0;
        let stored_through = if is_empty {
            stream.state.last_sequence
        } else {
            stream.state.first_sequence.saturating_sub(1)
        };
        Self {
            stream: &stream.config.name,
            stored_through: i64::try_from(stored_through).unwrap_or(i64::MAX),
            drained_at: is_empty.then_some(now),
        }
    }
}

async fn write(pool: &LimitedPool, floors: &[Floor<'_>]) -> Result<bool, sqlx::Error> {
    let done = sqlx::query!(
        "insert into stream_floors as s (stream, stored_through, drained_at)
         select * from unnest($1::text[], $2::bigint[], $3::timestamptz[]) as f (stream, stored_through, drained_at)
         order by stream
         on conflict (stream) do update
             set stored_through = excluded.stored_through, drained_at = greatest(s.drained_at, excluded.drained_at)
             where s.stored_through <> excluded.stored_through or excluded.drained_at > s.drained_at
                or s.drained_at is null and excluded.drained_at is not null",
        &floors.iter().map(|floor| floor.stream).collect::<Vec<_>>() as _,
        &floors.iter().map(|floor| floor.stored_through).collect::<Vec<_>>(),
        &floors.iter().map(|floor| floor.drained_at).collect::<Vec<_>>() as _,
    )
    .execute(pool)
    .await?;
    Ok(done.rows_affected() > 0)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use shared::process::nats::NatsConfig;
    use sqlx::postgres::PgPoolOptions;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_look_that_is_not_answered_ends_at_the_stop() {
        // It takes connections and says nothing.
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = silent.local_addr().unwrap();
        let pool = PgPoolOptions::new().connect_lazy(&format!("postgres://nobody@{address}/none"));
        let limited = LimitedPool::new(pool.unwrap(), Duration::from_mins(1));
        let nats = NatsConfig {
            nats_url: format!("nats://{address}"),
            nats_credentials: None,
            nats_password_file: None,
        };
        let floors = Floors {
            nats: Nats::connect(&nats, "test").await.unwrap(),
            database: WarmPool::new(limited),
            permits: Permits::new(1),
            requests: FloorRequests::default(),
        };
        let stop = CancellationToken::new();
        let mut running = Box::pin(floors.run(stop.clone()));
        assert!(running.as_mut().now_or_never().is_none());
        stop.cancel();
        let ended = tokio::time::timeout(Duration::from_secs(5), running).await;
        ended.expect("it waits for no answer").unwrap();
    }
}
