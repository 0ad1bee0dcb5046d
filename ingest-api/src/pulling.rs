//! Requests that wait for a delivery to pull.
//!
//! They hold no connection to the database. One task asks in one statement which of their endpoints have something due, and
//! wakes the requests for those. So the database gets the same few statements a second, however many requests wait. The
//! task also finds leases that ran out, which no message announces.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use shared::domain::id::{EndpointId, OrgId};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How often the table is asked while anyone waits.
const INTERVAL: Duration = Duration::from_millis(100);

/// Pause after the database did not answer.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// Who waits for what, on this replica.
#[derive(Debug)]
pub(crate) struct Waiters {
    endpoints: DashMap<EndpointId, (OrgId, Arc<Notify>)>,
    /// Notified whenever somebody comes.
    entered: Notify,
    stop: CancellationToken,
}

impl Waiters {
    /// Nobody waits yet; nobody waits beyond `stop`.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Self {
            endpoints: DashMap::new(),
            entered: Notify::new(),
            stop,
        }
    }

    /// Takes a place among those that wait for an endpoint's deliveries.
    pub(crate) fn enter(&self, org_id: OrgId, endpoint_id: EndpointId) -> Place<'_> {
        metrics::gauge!("penstock_pulls_waiting").increment(1);
        let entry = self.endpoints.entry(endpoint_id);
        let due = entry.or_insert_with(|| (org_id, Arc::default())).1.clone();
        self.entered.notify_one();
        Place {
            waiters: self,
            endpoint_id,
            due,
        }
    }

    /// Wakes whoever has something to pull, until the stop.
    ///
    /// # Errors
    /// Never yet; it returns a result because it runs as a long-lived task.
    pub(crate) async fn watch(self: Arc<Self>, store: Store) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(INTERVAL);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        while self.stop.run_until_cancelled(tick.tick()).await.is_some() {
            let waiting: Vec<_> = self
                .endpoints
                .iter()
                .map(|entry| (entry.0, *entry.key()))
                .collect();
            if waiting.is_empty() {
                let _ = self.stop.run_until_cancelled(self.entered.notified()).await;
                continue;
            }
            match store.find_due_to_pull(&waiting).await {
                Ok(due) => due.iter().for_each(|id| self.wake(*id)),
                Err(error) => {
                    tracing::warn!(%error, "cannot look for deliveries to pull, trying again");
                    let _ = self
                        .stop
                        .run_until_cancelled(tokio::time::sleep(RETRY_PAUSE))
                        .await;
                }
            }
        }
        Ok(())
    }

    fn wake(&self, id: EndpointId) {
        if let Some(entry) = self.endpoints.get(&id) {
            entry.1.notify_waiters();
        }
    }
}

/// A place among those that wait. It is left by its drop, also when the client goes away.
#[derive(Debug)]
pub(crate) struct Place<'a> {
    waiters: &'a Waiters,
    endpoint_id: EndpointId,
    due: Arc<Notify>,
}

impl Place<'_> {
    /// Calls `look`, and again each time something becomes due, until it finds something, or the deadline or the stop comes.
    ///
    /// # Errors
    /// Those of `look`.
    pub(crate) async fn look_until<T, E, F>(
        &self,
        deadline: Instant,
        look: impl Fn() -> F,
    ) -> Result<Option<T>, E>
    where
        F: Future<Output = Result<Option<T>, E>>,
    {
        loop {
            // Listen before `look`, so that nothing that becomes due meanwhile is missed.
            let due = self.due.notified();
            let found = look().await?;
            if found.is_some() {
                return Ok(found);
            }
            tokio::select! {
                () = due => {}
                () = tokio::time::sleep_until(deadline) => return Ok(found),
                () = self.waiters.stop.cancelled() => return Ok(found),
            }
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        metrics::gauge!("penstock_pulls_waiting").decrement(1);
        // Given up before the look: of several that leave at once, the last one to look sees none of the others.
        drop(std::mem::take(&mut self.due));
        self.waiters
            .endpoints
            .remove_if(&self.endpoint_id, |_, (_, due)| Arc::strong_count(due) == 1);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::timeout;

    use super::*;

    type Found = Result<Option<u8>, ()>;

    /// Only a failing test takes this long.
    const PATIENCE: Duration = Duration::from_secs(10);

    fn waiters() -> (Waiters, EndpointId) {
        (Waiters::new(CancellationToken::new()), EndpointId::generate())
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_hours(1)
    }

    #[tokio::test]
    async fn what_becomes_due_while_the_first_look_looks_is_not_missed() {
        let (waiters, id) = waiters();
        let place = waiters.enter(OrgId::generate(), id);
        let looks = Cell::new(0);
        let found = place.look_until(far(), async || -> Found {
            looks.set(looks.get() + 1);
            waiters.wake(id);
            Ok((looks.get() == 2).then_some(1))
        });
        assert_eq!(timeout(PATIENCE, found).await, Ok(Ok(Some(1))));
        assert_eq!(looks.get(), 2);
    }

    #[tokio::test]
    async fn the_stop_and_the_deadline_end_the_waiting() {
        let (waiters, id) = waiters();
        let place = waiters.enter(OrgId::generate(), id);
        let nothing = async || -> Found { Ok(None) };
        let found = place.look_until(Instant::now(), nothing);
        assert_eq!(timeout(PATIENCE, found).await, Ok(Ok(None)));
        waiters.stop.cancel();
        let found = place.look_until(far(), nothing);
        assert_eq!(timeout(PATIENCE, found).await, Ok(Ok(None)));
    }

    #[test]
    fn the_last_one_who_leaves_takes_the_entry_along() {
        let (waiters, id) = waiters();
        let first = waiters.enter(OrgId::generate(), id);
        let second = waiters.enter(OrgId::generate(), id);
        drop(first);
        assert_eq!(waiters.endpoints.len(), 1);
        drop(second);
        assert!(waiters.endpoints.is_empty());
    }
}
