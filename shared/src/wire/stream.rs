//! The JetStream streams between the services: `EVENTS-0`, `EVENTS-1`, …
//!
//! The events of one ordering key always go to the same stream, and the others to any, so that even one organisation uses
//! all of them. Each stream has one leader, so their number is how far ingest can spread over the nodes of a NATS cluster;
//! it can be raised at any time, because workers consume every stream whose name starts with [`NAME_PREFIX`].

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::domain::event::Event;

/// What every event stream's name starts with.
pub const NAME_PREFIX: &str = "EVENTS-";

/// The durable consumer that all workers share, one on each stream.
pub const CONSUMER: &str = "delivery-worker";

/// How long the server remembers a frame's id. Only an earlier release gives its frames one, and may run beside this one.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(30);

/// Name of the stream of a partition.
pub fn name(partition: u32) -> String {
    format!("{NAME_PREFIX}{partition}")
}

/// The partition whose stream has this name.
pub fn partition(name: &str) -> Option<u32> {
    name.strip_prefix(NAME_PREFIX)?.parse().ok()
}

/// Subject of a partition's frames.
pub fn subject(partition: u32) -> String {
    format!("events.{partition}")
}

/// What decides on an event's stream: the same for the events of one ordering key, and for repeats of one event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spread(u64);

impl Spread {
    /// Of an event.
    pub fn of(event: &Event<'_>) -> Self {
        let Some(key) = event.ordering_key else {
            // The low half of a UUID is random in every version that is used here.
            return Self(event.id.as_uuid().as_u64_pair().1);
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(event.org_id.as_uuid().as_bytes());
        for part in [event.tenant.unwrap_or_default(), key] {
            // UTF-8 text never holds this byte, so the two do not run together.
            hasher.update(part.as_bytes()).update(&[0xff]);
        }
        let mut bytes = [0; 8];
        hasher.finalize_xof().fill(&mut bytes);
        Self(u64::from_be_bytes(bytes))
    }

    /// The stream's number, below `partitions`.
    ///
    /// # Panics
    /// When `partitions` is 0.
    pub fn partition(self, partitions: u32) -> u32 {
        u32::try_from(self.0 % u64::from(partitions)).expect("the remainder is below a u32")
    }
}

/// A partition's stream. A worker's acknowledgement removes a frame (work queue); a full stream refuses new
/// frames and keeps what it has.
pub fn config(partition: u32, replicas: usize, max_bytes: i64) -> Config {
    Config {
        name: name(partition),
        subjects: vec![subject(partition)],
        retention: RetentionPolicy::WorkQueue,
        storage: StorageType::File,
        discard: DiscardPolicy::New,
        max_bytes,
        num_replicas: replicas,
        duplicate_window: DUPLICATE_WINDOW,
        ..Config::default()
    }
}

/// The workers' consumer. A frame that is not acknowledged within `ack_wait` goes to another worker.
pub fn consumer(ack_wait: Duration) -> consumer::pull::Config {
    consumer::pull::Config {
        durable_name: Some(CONSUMER.to_owned()),
        ack_policy: AckPolicy::Explicit,
        ack_wait,
        // Unbounded: a frame leaves the stream only when it is stored or set aside.
        max_deliver: -1,
        ..consumer::pull::Config::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::EventId;

    fn assert_even(spreads: impl Iterator<Item = Spread>) {
        let mut counts = [0_u32; 4];
        spreads.for_each(|spread| counts[spread.partition(4) as usize] += 1);
        assert!(
            counts.iter().all(|count| (800..1_200).contains(count)),
            "{counts:?}"
        );
    }

    #[test]
    fn a_stream_s_name_tells_its_partition() {
        for partition_number in [0, 7, u32::MAX] {
            assert_eq!(partition(&name(partition_number)), Some(partition_number));
        }
        for other in ["EVENTS-", "EVENTS-x", "OTHERS-1"] {
            assert_eq!(partition(other), None, "{other}");
        }
    }

    #[test]
    fn the_events_of_one_organisation_spread_evenly_over_the_streams() {
        let event = Event::sample();
        let events = (0..4_000).map(|_| Event {
            id: EventId::at(event.accepted_at),
            ..event
        });
        assert_even(events.map(|event| Spread::of(&event)));
        let keys: Vec<_> = (0..4_000).map(|number| format!("order-{number}")).collect();
        let keyed = keys.iter().map(|key| Event {
            ordering_key: Some(key),
            ..event
        });
        assert_even(keyed.map(|event| Spread::of(&event)));
    }

    #[test]
    fn the_events_of_one_ordering_key_stay_together_and_those_of_another_tenant_need_not() {
        let event = |tenant| Event {
            org_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            ordering_key: Some("k"),
            tenant,
            ..Event::sample()
        };
        // The number is written down: replicas of two releases must agree on it.
        assert_eq!(Spread::of(&event(None)).partition(1_000), 687);
        assert_eq!(Spread::of(&event(Some("a"))), Spread::of(&event(Some("a"))));
        assert_ne!(Spread::of(&event(Some("a"))), Spread::of(&event(Some("b"))));
        assert_ne!(Spread::of(&event(Some("a"))), Spread::of(&event(None)));
    }
}
