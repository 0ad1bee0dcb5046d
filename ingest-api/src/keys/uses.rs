//! When each key was last used. Every request notes it in memory; now and then one statement writes many keys to Postgres.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::clock::UnixMicros;
use time::OffsetDateTime;
use tokio_util::sync::CancellationToken;

use crate::keys::cache::KeyCache;
use crate::keys::moment::Moment;
use crate::store::KeyUse;
use crate::store::Store;

/// Most keys in one statement.
const BATCH: usize = 1_000;

/// Writes the keys' last uses, until the stop.
///
/// # Errors
/// Never yet; it returns a result because it runs as a long-lived task.
pub(crate) async fn save_regularly(
    cache: Arc<KeyCache>,
    store: Store,
    interval: Duration,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut tick = tokio::time::interval(interval);
    while stop.run_until_cancelled(tick.tick()).await.is_some() {
        save(&cache, &store).await;
    }
    Ok(())
}

/// Writes the uses that Postgres does not know of. What fails is tried again the next time.
pub(crate) async fn save(cache: &KeyCache, store: &Store) {
    let unsaved = cache.unsaved_uses();
    for batch in unsaved.chunks(BATCH) {
        let seconds: Vec<_> = batch.iter().map(|key| key.unsaved_use()).collect();
        let uses = batch.iter().zip(&seconds).filter_map(|(key, second)| {
            Some(KeyUse {
                id: &key.id,
                org_id: key.grant.realm.org_id,
                at: wall_time(cache.time_of((*second)?)),
            })
        });
        match store.save_key_uses(uses).await {
            Ok(()) => {
                for (key, second) in batch.iter().zip(seconds) {
                    if let Some(second) = second {
                        key.saved_use(second);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(%error, keys = unsaved.len(), "cannot write when keys were last used");
                return;
            }
        }
    }
}

fn wall_time(at: Moment) -> OffsetDateTime {
    UnixMicros::now().to_date_time() - at.elapsed()
}
