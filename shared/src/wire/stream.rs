//! The JetStream streams between the services: `EVENTS-0`, `EVENTS-1`, …
//!
//! An organisation's events always go to the same stream. Each stream has one leader, so their number is how
//! far ingest can spread over the nodes of a NATS cluster; it can be raised at any time, because workers
//! consume every stream whose name starts with [`NAME_PREFIX`].

use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy};
use async_nats::jetstream::stream::{Config, DiscardPolicy, RetentionPolicy, StorageType};

use crate::domain::id::OrgId;

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

/// Subject of a partition's frames.
pub fn subject(partition: u32) -> String {
    format!("events.{partition}")
}

/// The partition, below `partitions`, of an organisation's events.
///
/// # Panics
/// When `partitions` is 0.
pub fn partition(org_id: OrgId, partitions: u32) -> u32 {
    // The low half of a UUID is random in every version that is used here.
    let (_, low) = org_id.as_uuid().as_u64_pair();
    u32::try_from(low % u64::from(partitions)).expect("the remainder is below a u32")
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

    #[test]
    fn organisations_spread_evenly_over_the_partitions() {
        let mut counts = [0_u32; 4];
        for _ in 0..4_000 {
            counts[partition(OrgId::generate(), 4) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (800..1_200).contains(count)),
            "{counts:?}"
        );
    }
}
