//! One look-up of a key at a time, however many requests wait for it, and one failure for all of them.

use std::sync::Arc;
use std::time::Instant;

use dashmap::DashMap;
use tokio::sync::{Mutex, MutexGuard};

use crate::keys::api_key::Digest;
use crate::keys::error::KeyError;

/// The keys that requests wait for.
#[derive(Debug, Default)]
pub struct Flights(DashMap<Digest, Arc<Mutex<Option<Failure>>>>);

/// A look-up that could not be made.
#[derive(Debug)]
struct Failure {
    at: Instant,
    reason: &'static str,
    retry_after: u64,
}

impl Flights {
    /// Takes a place among the requests that wait for a key.
    pub fn enter(&self, digest: Digest) -> Flight<'_> {
        Flight {
            lock: self.0.entry(digest).or_default().clone(),
            flights: self,
            digest,
            entered_at: Instant::now(),
        }
    }
}

/// A place among the requests that wait for the same key. The last to leave, also by being cancelled, takes the map's
/// entry along.
#[derive(Debug)]
pub struct Flight<'a> {
    flights: &'a Flights,
    digest: Digest,
    lock: Arc<Mutex<Option<Failure>>>,
    entered_at: Instant,
}

impl Flight<'_> {
    /// Waits for the turn to look the key up.
    pub async fn turn(&self) -> Turn<'_> {
        Turn {
            failure: self.lock.lock().await,
            entered_at: self.entered_at,
        }
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        const MAP_AND_SELF: usize = 2;
        self.flights
            .0
            .remove_if(&self.digest, |_, lock| Arc::strong_count(lock) <= MAP_AND_SELF);
    }
}

/// The turn to look a key up.
#[derive(Debug)]
pub struct Turn<'a> {
    failure: MutexGuard<'a, Option<Failure>>,
    entered_at: Instant,
}

impl Turn<'_> {
    /// Fails as the look-up before did when this request already waited for that one: another would only fail later.
    ///
    /// # Errors
    /// With the same reason.
    pub fn failed_meanwhile(&self) -> Result<(), KeyError> {
        match &*self.failure {
            Some(failure) if failure.at >= self.entered_at => Err(KeyError::Unavailable {
                reason: failure.reason,
                retry_after: failure.retry_after,
            }),
            _ => Ok(()),
        }
    }

    /// Notes an error for those that wait, unless it says something about this request or this key.
    pub fn fail(&mut self, error: &KeyError) {
        if let KeyError::Unavailable { reason, retry_after } = *error {
            *self.failure = Some(Failure {
                at: Instant::now(),
                reason,
                retry_after,
            });
        }
    }
}
