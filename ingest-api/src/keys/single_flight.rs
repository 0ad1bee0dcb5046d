//! One look-up of a key at a time, however many requests wait for it, and one failure for all of them.

use std::sync::Arc;
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::{Mutex, MutexGuard};

use crate::keys::api_key::Digest;
use crate::keys::error::KeyError;

/// The keys that requests wait for.
#[derive(Debug, Default)]
pub(crate) struct Flights(DashMap<Digest, Arc<Mutex<Option<Failure>>>>);

/// A look-up that could not be made.
#[derive(Debug)]
pub(super) struct Failure {
    at: Instant,
    reason: &'static str,
    retry_after: u64,
}

impl Failure {
    /// Of a look-up that ends now. None when the error may be about one request or one key alone.
    pub(super) fn of(error: &KeyError) -> Option<Self> {
        let KeyError::Unavailable { reason, retry_after } = *error else {
            return None;
        };
        Some(Self {
            at: Instant::now(),
            reason,
            retry_after,
        })
    }

    /// Fails who was waiting when the look-up failed: its own would only fail later.
    ///
    /// # Errors
    /// With the same reason.
    pub(super) fn share(&self, waits_since: Instant) -> Result<(), KeyError> {
        if self.at < waits_since {
            return Ok(());
        }
        Err(KeyError::Unavailable {
            reason: self.reason,
            retry_after: self.retry_after,
        })
    }
}

impl Flights {
    /// Takes a place among the requests that wait for a key.
    pub(crate) fn enter(&self, digest: Digest) -> Flight<'_> {
        Flight {
            lock: self.0.entry(digest).or_default().clone(),
            flights: self,
            digest,
            entered_at: Instant::now(),
        }
    }
}

/// A place among the requests that wait for the same key. The last one to leave, also by cancellation, removes the map's
/// entry.
#[derive(Debug)]
pub(crate) struct Flight<'a> {
    flights: &'a Flights,
    digest: Digest,
    lock: Arc<Mutex<Option<Failure>>>,
    entered_at: Instant,
}

impl Flight<'_> {
    /// Waits for the turn to look the key up.
    pub(crate) async fn turn(&self) -> Turn<'_> {
        Turn {
            failure: self.lock.lock().await,
            entered_at: self.entered_at,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        // Given up before the look: of several that leave at once, the last one to look sees none of the others.
        drop(std::mem::take(&mut self.lock));
        self.flights
            .0
            .remove_if(&self.digest, |_, lock| Arc::strong_count(lock) == 1);
    }
}

/// The turn to look a key up.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    failure: MutexGuard<'a, Option<Failure>>,
    entered_at: Instant,
}

impl Turn<'_> {
    /// Fails like the last look-up, if this request was waiting when that one failed.
    ///
    /// # Errors
    /// With the same reason.
    pub(crate) fn failed_meanwhile(&self) -> Result<(), KeyError> {
        let failure = self.failure.as_ref();
        failure.map_or(Ok(()), |failure| failure.share(self.entered_at))
    }

    /// Stores an error for the requests that wait, if it is about neither this request nor this key.
    pub(crate) fn fail(&mut self, error: &KeyError) {
        if let Some(failure) = Failure::of(error) {
            *self.failure = Some(failure);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    #[test]
    fn of_two_that_leave_at_once_the_last_one_removes_the_entry() {
        const ROUNDS: u16 = 10_000;
        let (flights, together) = (Flights::default(), Barrier::new(2));
        let enter_and_leave = || {
            for round in 0..ROUNDS {
                let mut digest = [0; 32];
                digest[..2].copy_from_slice(&round.to_be_bytes());
                let flight = flights.enter(digest);
                together.wait();
                drop(flight);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(enter_and_leave);
            enter_and_leave();
        });
        assert!(flights.0.is_empty());
    }

    #[tokio::test]
    async fn an_entry_stays_while_somebody_waits_and_goes_with_the_last_one() {
        let flights = Flights::default();
        let (first, second) = (flights.enter([0; 32]), flights.enter([0; 32]));
        let turn = first.turn().await;
        drop(second);
        assert_eq!(flights.0.len(), 1);
        drop(turn);
        drop(first);
        assert!(flights.0.is_empty());
    }
}
