//! The bucket in NATS, and reading what stands in an entry's place.

use std::time::Duration;

use async_nats::jetstream::kv;
use async_nats::jetstream::stream::StorageType;
use bytes::Bytes;
use shared::domain::clock::UnixMicros;
use tokio::time::timeout;

use crate::config::{KeyCacheConfig, KeyShareConfig};
use crate::domain::access::key::KeyId;

/// The bucket's name.
pub(super) const BUCKET: &str = "KEYS";

/// How long a read or a removal may take before it is done without.
pub(super) const PATIENCE: Duration = Duration::from_millis(500);

/// How long after a removal no entry is written: longer than a look-up takes, and than clocks differ.
const REMOVAL_MEMORY: Duration = Duration::from_secs(60);

/// What stands in an entry's place.
pub(super) enum Place {
    /// No entry; this is the revision to write over.
    Free(u64),
    /// An entry, under this revision.
    Taken(u64, Bytes),
    /// An entry stood here until a moment ago.
    Removed,
}

/// Reads an entry's place; `None` when it cannot be read.
pub(super) async fn entry(bucket: &kv::Store, id: &KeyId) -> Option<Place> {
    let Some(entry) = timeout(PATIENCE, bucket.entry(id.as_str())).await.ok()?.ok()? else {
        return Some(Place::Free(0));
    };
    if entry.operation == kv::Operation::Put {
        return Some(Place::Taken(entry.revision, entry.value));
    }
    let lately = UnixMicros::now().to_date_time() - entry.created < REMOVAL_MEMORY;
    Some(if lately {
        Place::Removed
    } else {
        Place::Free(entry.revision)
    })
}

/// The bucket. When it is full, further keys are not shared.
pub(crate) fn settings(config: &KeyShareConfig, keys: &KeyCacheConfig, replicas: u8) -> kv::Config {
    kv::Config {
        bucket: BUCKET.to_owned(),
        description: "API keys that ingest replicas have verified".to_owned(),
        history: 1,
        max_age: config.key_share_ttl.max(keys.key_outage_ttl),
        max_bytes: config.key_share_max_bytes,
        storage: StorageType::File,
        num_replicas: usize::from(replicas),
        ..kv::Config::default()
    }
}
