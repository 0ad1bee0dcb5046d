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
    /// Its first attempt has ended before it is written.
    pub ended: Option<Arc<Ended>>,
}

/// A first attempt that has ended: the delivery is delivered, or due again after a time.
#[derive(Debug)]
pub(crate) struct Ended {
    /// When it began.
    pub started_at: OffsetDateTime,
    /// How long it took.
    pub duration: Duration,
    /// How it ended.
    pub outcome: Outcome,
    /// The answer's status.
    pub status: Option<u16>,
    /// The answer's first bytes.
    pub response: Vec<u8>,
    /// What went wrong, in words.
    pub error: Option<String>,
    /// How long it is until the next attempt; None after a success.
    pub next_after: Option<Duration>,
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
            ended: None,
        }
    }

    /// A delivery that has begun, and whose first attempt has perhaps ended.
    pub(crate) fn begun(
        event: usize,
        endpoint_id: EndpointId,
        lease: (LeaseToken, Duration),
        ended: Option<Arc<Ended>>,
    ) -> Self {
        Self {
            event,
            endpoint_id,
            pull: false,
            is_undecided: false,
            lease: Some(lease),
            order: None,
            ended,
        }
    }

    /// Where it stands when it is written.
    pub(super) fn status(&self) -> DeliveryStatus {
        if self.is_undecided {
            return DeliveryStatus::Dead;
        }
        match &self.ended {
            Some(ended) if ended.next_after.is_none() => DeliveryStatus::Delivered,
            Some(_) | None => DeliveryStatus::Pending,
        }
    }

    /// How its last attempt ended, or what keeps it from having one.
    pub(super) fn outcome(&self) -> Option<Outcome> {
        if self.is_undecided {
            return Some(Outcome::Filter);
        }
        self.ended.as_ref().map(|ended| ended.outcome)
    }

    /// A lease is for what is under way.
    pub(super) fn lease(&self) -> Option<(LeaseToken, Duration)> {
        self.lease.filter(|_| !self.is_undecided && self.ended.is_none())
    }

    /// How long it is until it is due; None when it is due at once, or never.
    pub(super) fn due_after(&self) -> Option<Duration> {
        let of_lease = self.lease().map(|(_, length)| length);
        of_lease.or_else(|| self.ended.as_ref()?.next_after)
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
