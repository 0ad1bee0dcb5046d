//! The faults, by what they are done to.

pub(crate) mod services;
pub(crate) mod keys;
pub(crate) mod network;
pub(crate) mod clock;
pub(crate) mod crash;
pub(crate) mod slow;
pub(crate) mod filters;
pub(crate) mod receivers;
pub(crate) mod logs;
pub(crate) mod releases;
pub(crate) mod soak;
pub(crate) mod servers;

use std::time::Duration;

use tokio::time::Instant;

/// The moments of a fault that is repeated: one at random in each of equal spans of time.
struct Moments {
    start: Instant,
    span: Duration,
    passed: u32,
}

impl Moments {
    fn every(span: Duration) -> Self {
        Self {
            start: Instant::now(),
            span,
            passed: 0,
        }
    }

    /// Waits for the next moment, in the first half of its span, so that what follows has the other half.
    async fn next(&mut self) {
        let within = self.span.mul_f64(rand::random_range(0.0..0.5));
        let moment = self.start + self.span * self.passed + within;
        self.passed += 1;
        tokio::time::sleep_until(moment).await;
    }
}
