//! How many requests an organisation may make.

use serde::{Deserialize, Serialize};

/// The window of every limit, a minute, in nanoseconds.
pub const WINDOW_NANOS: u64 = 60_000_000_000;

/// How many requests an organisation may make in a minute; all of them may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Limit {
    per_minute: u64,
}

impl Limit {
    /// At least 1, and at most one a nanosecond.
    pub fn per_minute(requests: u64) -> Self {
        Self {
            per_minute: requests.clamp(1, WINDOW_NANOS),
        }
    }

    /// Requests a minute.
    pub fn get(self) -> u64 {
        self.per_minute
    }

    /// The limit of one of `replicas` when they do not hear each other, at least 1.
    #[must_use]
    pub fn share(self, replicas: u32) -> Self {
        Self::per_minute(self.per_minute / u64::from(replicas.max(1)))
    }

    /// Nanoseconds that one request takes out of the window.
    pub fn interval(self) -> u64 {
        // A limit comes from other replicas too, so it is not trusted to be what `per_minute` makes it.
        (WINDOW_NANOS / self.per_minute.max(1)).max(1)
    }
}
