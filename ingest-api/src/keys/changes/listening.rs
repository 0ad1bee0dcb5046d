//! How a replica learns of changes: from signals, from Postgres, and by asking about all its keys after it may have missed some.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subscriber;
use futures_util::StreamExt as _;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{KeyChanges, RETRY_PAUSE, SUBJECT, Signal};
use crate::keys::authenticator::Authenticator;
use crate::keys::cache::KeyChange;
use crate::keys::changes::hearing::Span;
use crate::keys::changes::markers::{Markers, Returned};
use crate::keys::moment::Moment;
use crate::store::{LATE_COMMIT, Store};

/// How often Postgres is asked for changes.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How far back it is asked. A change holds a time before its commit, so only half of that stretch is known for certain. A replica
/// without an answer for that long asks about all its keys.
const LOOK_BACK: Duration = LATE_COMMIT;

impl KeyChanges {
    /// Drops changed keys from memory, until the stop.
    ///
    /// # Errors
    /// When the subscription ends.
    pub(crate) async fn listen(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut signals = self.nats.client.subscribe(SUBJECT).await?;
        let mut connections = self.nats.connections();
        let mut markers = Markers::new();
        loop {
            let pause = self.marker_due(&markers) - Moment::now();
            tokio::select! {
                heard = self.hear(&mut signals, &mut markers) => heard?,
                () = tokio::time::sleep(pause) => self.send_marker(&mut markers).await,
                // The next marker may be due now: the pause stands still while the machine sleeps.
                () = self.cache.hearing().wanted() => {}
                () = connections.changed() => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    fn marker_due(&self, markers: &Markers) -> Moment {
        markers.due(self.connection(), self.cache.hearing().until())
    }

    /// Sends the next marker, unless it is not due any more.
    async fn send_marker(&self, markers: &mut Markers) {
        let now = Moment::now();
        // Without a connection it would only come late.
        if now < self.marker_due(markers) {
            return;
        }
        if self.nats.is_connected() {
            let marker = markers.next(self.connection(), now);
            self.publish(vec![Signal::Marker(marker)]).await;
        } else {
            markers.skip(now);
        }
    }

    /// The number of the present connection. The client counts one before it reads anything from it.
    fn connection(&self) -> u64 {
        self.nats.client.statistics().connects.load(Ordering::Acquire)
    }

    async fn hear(&self, signals: &mut Subscriber, markers: &mut Markers) -> anyhow::Result<()> {
        let message = signals.next().await;
        let message = message.ok_or_else(|| anyhow::anyhow!("the subscription to {SUBJECT} ended"))?;
        match serde_json::from_slice(&message.payload) {
            Ok(Signal::Changed(change)) => self.cache.change(&change),
            Ok(Signal::Marker(marker)) => match markers.returned(marker, self.connection(), Moment::now()) {
                Returned::First => self.back_in_touch.notify_one(),
                Returned::Again(span) => self.cache.hearing().add(span),
                Returned::Foreign => {}
            },
            Err(error) => tracing::warn!(%error, "a signal that this version cannot read"),
        }
        Ok(())
    }

    /// Drops the keys that were changed in Postgres, whether or not it was signalled, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub(crate) async fn watch(self: Arc<Self>, store: Store, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut seen, mut answered) = (HashSet::new(), Moment::now());
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            let asked_at = Moment::now();
            let changes = match stop.run_until_cancelled(store.changed_keys(LOOK_BACK)).await {
                None => break,
                Some(Ok(changes)) => changes,
                Some(Err(error)) => {
                    tracing::debug!(%error, "cannot look for changes of keys, trying again");
                    continue;
                }
            };
            if asked_at - answered > LOOK_BACK / 2 {
                self.back_in_touch.notify_one();
            }
            answered = asked_at;
            for change in changes.iter().filter(|change| !seen.contains(*change)) {
                self.cache.change(&KeyChange::Key(change.id.clone()));
                self.share.discard(change.id.clone());
            }
            seen = changes;
            self.cache.database_answered(asked_at);
            self.cache.hearing().add(Span {
                from: asked_at - LOOK_BACK / 2,
                until: asked_at,
            });
        }
        Ok(())
    }

    /// Asks Postgres about every key whenever changes may have been missed, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub(crate) async fn catch_up(
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
