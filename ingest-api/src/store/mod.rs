//! The ingest API's SQL, by resource.

mod keys;
mod organizations;
mod endpoints;
mod deliveries;
mod recoveries;
mod events;
mod places;
mod replay;
mod pull;
mod legacy;

use sqlx::PgPool;

pub use self::deliveries::{DeliveryFilter, EndpointDeliveryRow, MAX_COUNTED, OutcomeCount};
pub use self::endpoints::{EndpointRow, EndpointToStore};
pub use self::events::{AttemptRow, DeliveryRow, EventFilter, EventRow};
pub use self::keys::{KeyRow, KeyToStore, Rotation};
pub use self::legacy::{InboxFilter, InboxRow};
pub use self::places::EventPlace;
pub use self::pull::{AcknowledgedRow, Pull, PulledRow};
pub use self::recoveries::{NewRecovery, RecoveryRow};
pub use self::replay::Replayed;

type Result<T> = std::result::Result<T, sqlx::Error>;

/// The database, as far as this service uses it.
#[derive(Clone, Debug)]
pub struct Store {
    pool: PgPool,
}

impl Store {
    /// On this pool.
    pub fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}
