//! Deliveries as they are written with their events.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, LeaseToken};
use time::OffsetDateTime;

use crate::endpoints::subscribers::Taker;

/// A delivery to be written with its event.
#[derive(Debug)]
pub(crate) struct NewDelivery<'a> {
    /// Index of the event among those that are written.
    pub event: usize,
    /// Where it goes.
    pub endpoint_id: EndpointId,
    /// Its owner pulls it: no worker may send it.
    pub pull: bool,
    /// It is dead from the start: to find out whether its endpoint wants it would have taken too long.
    pub is_undecided: bool,
    /// It starts at once under this lease; without one it is due in the table.
    pub lease: Option<(LeaseToken, Duration)>,
    /// Its place in the order that its endpoint keeps.
    pub order: Option<Order<'a>>,
    /// It was delivered before it is written.
    pub success: Option<Arc<Success>>,
}

/// A first attempt that succeeded.
#[derive(Debug)]
pub(crate) struct Success {
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// The answer's status.
    pub status: Option<u16>,
    /// The answer's first bytes.
    pub response: Vec<u8>,
}

impl NewDelivery<'_> {
    /// The delivery of an event to one that takes it, by the event's index. It is due at once, in no order.
    pub(crate) fn of(event: usize, taker: Taker<'_>) -> Self {
        Self {
            event,
            endpoint_id: taker.subscriber.endpoint_id,
            pull: taker.subscriber.target.is_pull(),
            is_undecided: taker.is_undecided,
            lease: None,
            order: None,
            success: None,
        }
    }

    /// A delivery that has begun, and perhaps succeeded.
    pub(crate) fn begun(
        event: usize,
        endpoint_id: EndpointId,
        lease: (LeaseToken, Duration),
        success: Option<Arc<Success>>,
    ) -> Self {
        Self {
            event,
            endpoint_id,
            pull: false,
            is_undecided: false,
            lease: Some(lease),
            order: None,
            success,
        }
    }

    /// Where it stands when it is written.
    pub(super) fn status(&self) -> DeliveryStatus {
        if self.is_undecided {
            DeliveryStatus::Dead
        } else if self.success.is_some() {
            DeliveryStatus::Delivered
        } else {
            DeliveryStatus::Pending
        }
    }

    /// How it ended, if it has.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        match self.status() {
            DeliveryStatus::Dead => Some(Outcome::Filter),
            DeliveryStatus::Delivered => Some(Outcome::Delivered),
            DeliveryStatus::Pending => None,
        }
    }

    /// A lease is for what is under way.
    pub(super) fn lease(&self) -> Option<(LeaseToken, Duration)> {
        self.lease.filter(|_| self.status() == DeliveryStatus::Pending)
    }
}

/// The place of a delivery among those of its endpoint and key.
#[derive(Clone, Debug)]
pub(crate) struct Order<'a> {
    /// The producer's ordering key, after its tenant if it has one.
    pub key: Cow<'a, str>,
    /// The stream that its event came in.
    pub stream: &'a str,
    /// Its event's place in that stream.
    pub ordinal: i64,
}
