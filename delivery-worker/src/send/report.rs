//! What became of an attempt, as data: what the recorder writes down.

use std::time::Duration;

use shared::domain::delivery::DeliveryStatus;

use crate::endpoints::permits::Permit;
use crate::endpoints::retry::Next;
use crate::send::attempt::Attempt;
use crate::send::job::Job;

/// An attempt that has ended and waits to be recorded. It holds its permit, so permits bound how many wait.
#[derive(Debug)]
pub(crate) struct Report {
    pub job: Job,
    pub attempt: Attempt,
    /// What becomes of the delivery.
    pub next: Next,
    /// Freed by its drop when the result is recorded.
    pub permit: Permit,
    /// The delivery was stored as this attempt has left it. What is left to record is its endpoint's health.
    pub is_stored: bool,
}

impl Report {
    /// The delivery's new status.
    pub(crate) fn status(&self) -> DeliveryStatus {
        match self.next {
            Next::Delivered => DeliveryStatus::Delivered,
            Next::RetryIn(_) | Next::PutOff(_) => DeliveryStatus::Pending,
            Next::Dead => DeliveryStatus::Dead,
        }
    }

    /// Whether a request was sent. If not, this is no attempt: the delivery stays as it was, or is dead by age.
    pub(crate) fn was_tried(&self) -> bool {
        self.attempt.lack.is_none() && !matches!(self.next, Next::PutOff(_))
    }

    /// Milliseconds until it is due again; `None` when it has ended.
    pub(crate) fn wait_ms(&self) -> Option<i64> {
        match self.next {
            Next::RetryIn(wait) | Next::PutOff(wait) => {
                Some(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
            }
            Next::Delivered | Next::Dead => None,
        }
    }

    /// From the event's acceptance to the end of the attempt.
    pub(crate) fn latency(&self) -> Duration {
        let took = self.attempt.started_at - self.job.event.accepted_at.to_date_time();
        Duration::try_from(took).unwrap_or_default() + self.attempt.duration
    }
}
