//! Changes of keys, signalled between the replicas over core NATS, so that a revoked key stops working everywhere.
//!
//! A replica that changes a key writes Postgres first. Then it publishes the change, and every replica drops the key
//! from memory: the next request with that key asks Postgres. Then it removes the shared verification, and publishes
//! the change once more, for a replica that read the verification after the first signal and before its removal.
//!
//! A change may be written and never be signalled: its client went away in between, the replica died, or it cannot
//! reach NATS. So twice a second each replica also asks Postgres which keys were changed lately, and signals the
//! changes that it finds. It need not ask about organisations, whose changes are written and signalled together
//! ([`KeyChanges::make`]).
//!
//! Core NATS delivers at most once, so a replica must know what it has heard. A look at Postgres shows it the changes of
//! the last seconds. When a look does not come in time, and when the connection is new, it sends itself a marker. What comes
//! back shows that it has read all signals from before the marker, since its connection was made ([`crate::keys::changes::hearing`]
//! puts the two together). When a connection is made anew, Postgres is asked about every key in memory, in batches, because
//! signals may have been missed.
//!
//! Signals are not authenticated: the worst that a forged one does is to make a replica ask Postgres again.

mod listening;
pub(crate) mod hearing;
pub(crate) mod markers;
pub(crate) mod ended;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use shared::process::nats::Nats;
use shared::process::shutdown::Tasks;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::access::key::KeyId;
use crate::keys::cache::{KeyCache, KeyChange};
use crate::keys::error::KeyError;
use crate::keys::share::KeyShare;

const SUBJECT: &str = "ingest.key-changes";

/// How long a request that changed keys waits for their signals to leave the process.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(500);

/// Pause after Postgres did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// What replicas tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Signal {
    Changed(KeyChange),
    /// A marker for the replica that sent it, which knows it by this number.
    Marker(Uuid),
}

/// One replica's part: it sends changes, and applies those that it hears.
#[derive(Debug)]
pub(crate) struct KeyChanges {
    nats: Nats,
    cache: Arc<KeyCache>,
    share: Arc<KeyShare>,
    tasks: Tasks,
    back_in_touch: Notify,
}

impl KeyChanges {
    /// Hears nothing until [`KeyChanges::listen`] runs.
    pub(crate) fn new(nats: Nats, cache: Arc<KeyCache>, share: Arc<KeyShare>, tasks: Tasks) -> Self {
        Self {
            nats,
            cache,
            share,
            tasks,
            back_in_touch: Notify::new(),
        }
    }

    /// Makes a change that replicas do not look for in Postgres, and announces it. It does both even when its request
    /// is given up meanwhile. `write` returns None when there is nothing to change.
    ///
    /// # Errors
    /// Those of `write`. It may have written all the same, so that is announced too.
    pub(crate) async fn make<T: Send + 'static>(
        self: &Arc<Self>,
        change: KeyChange,
        write: impl Future<Output = Result<Option<T>, sqlx::Error>> + Send + 'static,
    ) -> Result<Option<T>, KeyError> {
        let this = self.clone();
        let (done, outcome) = oneshot::channel();
        self.tasks.spawn("key change", async move {
            let written = write.await;
            if !matches!(written, Ok(None)) {
                this.announce(&[change]).await;
            }
            let _ = done.send(written);
        });
        let outcome = outcome.await.map_err(anyhow::Error::from);
        Ok(outcome.map_err(KeyError::Internal)??)
    }

    /// Tells every replica, within two seconds, which keys were changed in Postgres. Replicas look there for what was not told.
    pub(crate) async fn announce_keys(&self, keys: impl IntoIterator<Item = KeyId>) {
        let changes: Vec<_> = keys.into_iter().map(KeyChange::Key).collect();
        self.announce(&changes).await;
    }

    async fn announce(&self, changes: &[KeyChange]) {
        for change in changes {
            self.cache.change(change);
        }
        self.publish(changes.iter().cloned().map(Signal::Changed).collect())
            .await;
        let keys = changes.iter().filter_map(KeyChange::key).cloned();
        let removed = self.share.remove_all(&keys.collect::<Vec<_>>()).await;
        self.publish(removed.into_iter().map(changed_key).collect()).await;
    }

    /// Removes changed keys from the shared bucket, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub(crate) async fn unshare(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        while let Some(ids) = stop.run_until_cancelled(self.share.discarded()).await {
            let mut all_removed = true;
            for id in ids {
                if stop.is_cancelled() {
                    return Ok(());
                }
                // Others have seen the same change, and one removal is enough.
                if self.share.is_removed(&id).await || self.share.remove(&id).await {
                    self.share.has_removed(&id);
                    self.publish(vec![changed_key(id)]).await;
                } else {
                    all_removed = false;
                }
            }
            if !all_removed {
                let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
            }
        }
        Ok(())
    }

    /// Sends signals. Without NATS the client keeps them, as many as it has room for, and sends them when the connection is back.
    async fn publish(&self, signals: Vec<Signal>) {
        if signals.is_empty() {
            return;
        }
        let sent = async {
            for signal in &signals {
                let payload = serde_json::to_vec(signal).expect("plain fields have a JSON form");
                self.nats.client.publish(SUBJECT, payload.into()).await?;
            }
            anyhow::Ok(self.nats.client.flush().await?)
        };
        let sent = timeout(PUBLISH_PATIENCE, sent).await;
        if let Err(error) = sent.context("NATS does not answer in time").flatten() {
            let (first, count, error) = (signals.first(), signals.len(), format!("{error:#}"));
            tracing::warn!(?first, count, error, "signals are not sent yet");
        }
    }
}

fn changed_key(id: KeyId) -> Signal {
    Signal::Changed(KeyChange::Key(id))
}
