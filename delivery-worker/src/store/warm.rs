//! Connections to Postgres for statements that run all the time. Postgres is asked whether a connection still
//! works twice whenever one is given back to the pool, and once when one is taken that has rested for a second: two or three round
//! trips more for each that a statement takes. These go from one statement straight to the next, and back to the pool a second after they came from
//! it. One whose statement has failed, or has taken too long, is closed.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use shared::db::limited::LimitedPool;
use sqlx::pool::PoolConnection;
use sqlx::{PgConnection, Postgres};
use tokio::time::Instant;

/// How long a connection is used without the pool's looking at it.
const KEEP: Duration = Duration::from_secs(1);

/// A pool, and those of its connections that wait for the next statement.
#[derive(Clone, Debug)]
pub(crate) struct WarmPool {
    pool: LimitedPool,
    waiting: Arc<Mutex<Vec<Warm>>>,
}

#[derive(Debug)]
struct Warm {
    connection: PoolConnection<Postgres>,
    /// When the pool has last looked at it.
    taken: Instant,
}

impl WarmPool {
    /// Keeps half the connections of `pool` at most: other tasks need some too.
    pub(crate) fn new(pool: LimitedPool) -> Self {
        let waiting = Arc::default();
        Self { pool, waiting }
    }

    /// For the statements that run now and then, and for the time that any may take.
    pub(crate) fn pool(&self) -> &LimitedPool {
        &self.pool
    }

    /// A connection that waits, or one of the pool. Dropped without being kept, it is closed: its statement may not have
    /// ended, and may never end.
    ///
    /// # Errors
    /// When none waits and Postgres does not answer.
    pub(crate) async fn acquire(&self) -> Result<WarmConnection<'_>, sqlx::Error> {
        let warm = match self.take() {
            Some(warm) => warm,
            None => Warm {
                // Boxed: it is large, and seldom needed.
                connection: Box::pin(self.pool.connections().acquire()).await?,
                taken: Instant::now(),
            },
        };
        Ok(WarmConnection {
            warm: Some(warm),
            home: self,
        })
    }

    fn take(&self) -> Option<Warm> {
        let mut waiting = self.waiting();
        waiting.retain(|warm| warm.taken.elapsed() < KEEP);
        waiting.pop()
    }

    fn waiting(&self) -> MutexGuard<'_, Vec<Warm>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection for one statement, or for some that follow each other.
#[derive(Debug)]
pub(crate) struct WarmConnection<'a> {
    // None once it is kept.
    warm: Option<Warm>,
    home: &'a WarmPool,
}

const KEPT: &str = "a connection that is kept is not used any more";

impl WarmConnection<'_> {
    /// Keeps it for the next statement. Only after one that has ended well, so that it works, and outside any
    /// transaction.
    pub(crate) fn keep(mut self) {
        let most = self.home.pool.connections().options().get_max_connections() / 2;
        let warm = self.warm.take();
        let mut waiting = self.home.waiting();
        if waiting.len() < most as usize {
            waiting.extend(warm);
        }
    }
}

impl Drop for WarmConnection<'_> {
    fn drop(&mut self) {
        if let Some(warm) = &mut self.warm {
            warm.connection.close_on_drop();
        }
    }
}

impl Deref for WarmConnection<'_> {
    type Target = PgConnection;

    fn deref(&self) -> &PgConnection {
        &self.warm.as_ref().expect(KEPT).connection
    }
}

impl DerefMut for WarmConnection<'_> {
    fn deref_mut(&mut self) -> &mut PgConnection {
        &mut self.warm.as_mut().expect(KEPT).connection
    }
}
