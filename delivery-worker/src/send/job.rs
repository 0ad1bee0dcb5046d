//! A delivery that a worker holds a lease of: what is to be sent, as data.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::endpoint::OnExhausted;
use shared::domain::id::LeaseToken;

use crate::endpoints::endpoint::Endpoint;
use crate::endpoints::retry::RetryPolicy;
use crate::send::content::body::Outgoing;

/// A leased delivery.
#[derive(Debug)]
pub(crate) struct Job {
    pub event: Arc<Outgoing>,
    pub endpoint: Arc<Endpoint>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// Time since the delivery was stored.
    pub age: Duration,
    /// Whether it has an ordering key: the next delivery of the key waits for it.
    pub ordered: bool,
    /// The lease under which the result will be recorded.
    pub lease: LeaseToken,
}

impl Job {
    /// The first attempt of a new event, in no order.
    pub(crate) fn first(event: Arc<Outgoing>, endpoint: Arc<Endpoint>, lease: LeaseToken) -> Self {
        Self {
            event,
            endpoint,
            attempt: 1,
            age: Duration::ZERO,
            ordered: false,
            lease,
        }
    }

    /// The endpoint's retry policy; without an end if its key must wait for this delivery.
    pub(crate) fn policy(&self) -> RetryPolicy {
        let policy = self.endpoint.retry;
        match self.endpoint.on_exhausted {
            OnExhausted::Block if self.ordered => policy.without_end(),
            _ => policy,
        }
    }
}
