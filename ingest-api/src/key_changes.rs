//! What makes a key stop working everywhere: signals between the replicas, over core NATS.
//!
//! Whoever changes a key writes Postgres first. Then it publishes the change, and every replica drops what it
//! holds in memory: the next request with that key asks Postgres. Last it removes the shared verification.
//!
//! A change may be written and never be signalled: its client went away in between, the replica died, or it cannot reach
//! NATS. So each replica also asks Postgres which keys were changed lately, twice a second. It is not asked about
//! organisations, whose changes are made and signalled as one ([`KeyChanges::make`]).
//!
//! Core NATS delivers at most once, so a replica that was cut off must reckon with missed signals. Whenever its
//! connection is made anew it sends itself a marker. When that comes back, the subscription is known to be in
//! force, and Postgres is then asked about every key in memory, in batches.
//!
//! Signals are not authenticated: the worst that a forged one does is to make a replica ask Postgres again.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::Subscriber;
use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use shared::nats::Nats;
use shared::shutdown::Tasks;
use tokio::sync::{Notify, oneshot};
use tokio::time::{MissedTickBehavior, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::auth::Authenticator;
use crate::error::ApiError;
use crate::key_cache::{KeyCache, KeyChange};
use crate::key_share::KeyShare;
use crate::store::Store;

const SUBJECT: &str = "ingest.key-changes";

/// How long a request that changed a key waits for its signal to leave the process.
const PUBLISH_PATIENCE: Duration = Duration::from_millis(500);

/// Pause after Postgres did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How often Postgres is asked for changes, and how far back. A replica that did not get an answer for half as long
/// asks about all its keys.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
const LOOK_BACK: Duration = Duration::from_secs(10);

/// What replicas tell each other.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Signal {
    Changed(KeyChange),
    /// For the replica that sent it, which knows it by this number.
    Marker(Uuid),
}

/// The sending side, and what one replica does with what it hears.
#[derive(Debug)]
pub struct KeyChanges {
    nats: Nats,
    cache: Arc<KeyCache>,
    share: Arc<KeyShare>,
    tasks: Tasks,
    marker: Uuid,
    back_in_touch: Notify,
}

impl KeyChanges {
    /// Hears nothing until [`KeyChanges::listen`] runs.
    pub fn new(nats: Nats, cache: Arc<KeyCache>, share: Arc<KeyShare>, tasks: Tasks) -> Self {
        Self {
            nats,
            cache,
            share,
            tasks,
            marker: Uuid::new_v4(),
            back_in_touch: Notify::new(),
        }
    }

    /// Makes a change that replicas do not look for in Postgres, and announces it: both, even when the request that asks for it
    /// is given up meanwhile. `write` finds nothing where there is nothing to change.
    ///
    /// # Errors
    /// Those of `write`. It may have written all the same, so that is announced too.
    pub async fn make<T: Send + 'static>(
        self: &Arc<Self>,
        change: KeyChange,
        write: impl Future<Output = Result<Option<T>, ApiError>> + Send + 'static,
    ) -> Result<Option<T>, ApiError> {
        let this = self.clone();
        let (done, outcome) = oneshot::channel();
        self.tasks.spawn("key change", async move {
            let written = write.await;
            if !matches!(written, Ok(None)) {
                this.announce(change).await;
            }
            let _ = done.send(written);
        });
        let outcome = outcome.await.map_err(anyhow::Error::from);
        outcome.map_err(ApiError::Internal).flatten()
    }

    /// Tells every replica, this one included, of a change that is committed in Postgres.
    pub async fn announce(&self, change: KeyChange) {
        self.cache.change(&change);
        self.publish(&Signal::Changed(change.clone())).await;
        if let KeyChange::Key(id) = &change {
            self.share.remove(id).await;
        }
    }

    /// Sends a signal. Without NATS the client keeps it, and sends it when the connection is back.
    async fn publish(&self, signal: &Signal) {
        let payload = serde_json::to_vec(signal).expect("plain fields have a JSON form");
        let sent = async {
            self.nats.client.publish(SUBJECT, payload.into()).await?;
            anyhow::Ok(self.nats.client.flush().await?)
        };
        let sent = timeout(PUBLISH_PATIENCE, sent).await;
        if let Err(error) = sent.context("NATS does not answer in time").flatten() {
            tracing::warn!(?signal, error = format!("{error:#}"), "a signal is not sent yet");
        }
    }

    /// Drops what changed, until the stop.
    ///
    /// # Errors
    /// When the subscription ends.
    pub async fn listen(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut connections = self.nats.connections();
        let mut signals = self.nats.client.subscribe(SUBJECT).await?;
        connections.mark_changed();
        loop {
            tokio::select! {
                heard = self.hear(&mut signals) => heard?,
                () = connections.changed() => {
                    self.publish(&Signal::Marker(self.marker)).await;
                }
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    async fn hear(&self, signals: &mut Subscriber) -> anyhow::Result<()> {
        let message = signals.next().await;
        let message = message.ok_or_else(|| anyhow::anyhow!("the subscription to {SUBJECT} ended"))?;
        match serde_json::from_slice(&message.payload) {
            Ok(Signal::Changed(change)) => self.cache.change(&change),
            Ok(Signal::Marker(marker)) if marker == self.marker => self.back_in_touch.notify_one(),
            Ok(Signal::Marker(_)) => {}
            Err(error) => tracing::warn!(%error, "a signal that this version cannot read"),
        }
        Ok(())
    }

    /// Drops the keys that were changed in Postgres, whether or not it was signalled, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub async fn watch(self: Arc<Self>, store: Store, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut answered) = (HashSet::new(), Instant::now());
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let changes = match stop.run_until_cancelled(store.changed_keys(LOOK_BACK)).await {
                None => break,
                Some(Ok(changes)) => changes,
                Some(Err(error)) => {
                    tracing::debug!(%error, "cannot look for changes of keys, trying again");
                    continue;
                }
            };
            if answered.elapsed() > LOOK_BACK / 2 {
                self.back_in_touch.notify_one();
            }
            answered = Instant::now();
            for change in changes.iter().filter(|change| !seen.contains(*change)) {
                self.cache.change(&KeyChange::Key(change.id.clone()));
                self.share.remove(&change.id).await;
            }
            seen = changes;
        }
        Ok(())
    }

    /// Asks Postgres about every key whenever changes may have been missed, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub async fn catch_up(
        self: Arc<Self>,
        authenticator: Arc<Authenticator>,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        while stop
            .run_until_cancelled(self.back_in_touch.notified())
            .await
            .is_some()
        {
            match stop.run_until_cancelled(authenticator.refresh_all()).await {
                None => break,
                Some(Ok(keys)) => tracing::debug!(keys, "asked for all keys again"),
                Some(Err(_)) => {
                    self.back_in_touch.notify_one();
                    let _ = stop.run_until_cancelled(tokio::time::sleep(RETRY_PAUSE)).await;
                }
            }
        }
        Ok(())
    }
}
