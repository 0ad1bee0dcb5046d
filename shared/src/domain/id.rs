//! Identifiers. Each kind has its own type, so that none can stand for another.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::{NoContext, Timestamp, Uuid};

use crate::domain::clock::UnixMicros;

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, sqlx::Type,
        )]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(Uuid);

        impl $name {
            /// The underlying UUID.
            pub fn as_uuid(self) -> Uuid {
                self.0
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

uuid_id! {
    /// An organisation: it owns keys, endpoints and events.
    OrgId
}

uuid_id! {
    /// An event. It is what the 202 answers, what the tables store and what receivers see as `webhook-id`.
    EventId
}

uuid_id! {
    /// A webhook endpoint.
    EndpointId
}

uuid_id! {
    /// A paced return of an endpoint's deliveries to `pending`.
    RecoveryId
}

uuid_id! {
    /// Proof that a worker holds a delivery: results are recorded only under the token that claimed it.
    LeaseToken
}

impl OrgId {
    /// A new organisation id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl EndpointId {
    /// A new endpoint id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl RecoveryId {
    /// A new recovery id.
    pub fn generate() -> Self {
        Self(Uuid::now_v7())
    }
}

impl LeaseToken {
    /// A new token, unlike any other.
    pub fn generate() -> Self {
        Self(Uuid::new_v4())
    }
}

impl EventId {
    /// The id of an event that came without an idempotency key: a UUIDv7 of the time it was accepted.
    pub fn at(accepted_at: UnixMicros) -> Self {
        let micros = u64::try_from(accepted_at.get()).unwrap_or(0);
        let nanos = u32::try_from(micros % 1_000_000).unwrap_or(0) * 1_000;
        Self(Uuid::new_v7(Timestamp::from_unix(
            NoContext,
            micros / 1_000_000,
            nanos,
        )))
    }

    /// An id made by [`EventId::at`], with another time in it: the same for the same id and time.
    #[must_use]
    pub fn dated(self, accepted_at: UnixMicros) -> Self {
        let millis = u64::try_from(accepted_at.get() / 1_000).unwrap_or(0);
        let mut bytes = self.0.into_bytes();
        bytes[..6].copy_from_slice(&millis.to_be_bytes()[2..]);
        Self(Uuid::from_bytes(bytes))
    }

    /// The id of an event with an idempotency key: the same key of the same organisation and tenant gives the same
    /// id on every replica, with no look-up. A UUIDv8 (RFC 9562) made of a BLAKE3 hash.
    pub fn for_key(org_id: OrgId, tenant: Option<&str>, idempotency_key: &str) -> Self {
        match tenant {
            None => Self::derive(
                "penstock 2026 event id from idempotency key",
                org_id,
                &[idempotency_key],
            ),
            Some(tenant) => Self::derive(
                "penstock 2026 event id from tenant and idempotency key",
                org_id,
                &[tenant, idempotency_key],
            ),
        }
    }

    /// The id of a CloudEvent, which its `source` and `id` name: the same on every replica, as with a key.
    pub fn for_cloudevent(org_id: OrgId, tenant: Option<&str>, source: &str, id: &str) -> Self {
        match tenant {
            None => Self::derive(
                "penstock 2026 event id from cloudevent source and id",
                org_id,
                &[source, id],
            ),
            Some(tenant) => Self::derive(
                "penstock 2026 event id from tenant and cloudevent source and id",
                org_id,
                &[tenant, source, id],
            ),
        }
    }

    fn derive(context: &'static str, org_id: OrgId, parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(org_id.0.as_bytes());
        for part in parts {
            hasher.update(part.as_bytes());
            // UTF-8 text never holds this byte, so no two lists of parts run together.
            hasher.update(&[0xff]);
        }
        let mut bytes = [0; 16];
        hasher.finalize_xof().fill(&mut bytes);
        Self(Uuid::new_v8(bytes))
    }

    /// When an event without an idempotency key was accepted, to the millisecond, read from its id. `None` for an
    /// id that was derived from a key.
    pub fn accepted_millis(self) -> Option<i64> {
        if self.0.get_version_num() != 7 {
            return None;
        }
        let (seconds, nanos) = self.0.get_timestamp()?.to_unix();
        i64::try_from(seconds * 1_000 + u64::from(nanos / 1_000_000)).ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_idempotency_key_gives_the_same_id_in_every_release() {
        let org: OrgId = "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap();
        assert_eq!(
            EventId::for_key(org, None, "order-1").to_string(),
            "b4cb798e-69df-8f03-a12d-d50b58a81a2c",
        );
    }

    proptest! {
        #[test]
        fn different_keys_or_organisations_give_different_ids(a in ".{1,40}", b in ".{1,40}") {
            let (one, two) = (OrgId::generate(), OrgId::generate());
            prop_assert_eq!(EventId::for_key(one, None, &a), EventId::for_key(one, None, &a));
            prop_assert_ne!(EventId::for_key(one, None, &a), EventId::for_key(two, None, &a));
            prop_assert_eq!(EventId::for_key(one, None, &a) == EventId::for_key(one, None, &b), a == b);
        }

        #[test]
        fn an_id_without_a_key_carries_the_millisecond_it_was_accepted(micros in 0i64..4_102_444_800_000_000) {
            prop_assert_eq!(EventId::at(UnixMicros::new(micros)).accepted_millis(), Some(micros / 1_000));
            prop_assert_eq!(EventId::for_key(OrgId::generate(), None, "k").accepted_millis(), None);
        }

        #[test]
        fn an_id_that_is_dated_again_carries_that_millisecond_and_stays_unlike_others(
            one in 0i64..4_102_444_800_000_000, other in 0i64..4_102_444_800_000_000,
        ) {
            let (one, other) = (UnixMicros::new(one), UnixMicros::new(other));
            let (id, further) = (EventId::at(one), EventId::at(one));
            prop_assert_eq!(id.dated(one), id);
            prop_assert_eq!(id.dated(other).accepted_millis(), Some(other.get() / 1_000));
            prop_assert_ne!(id.dated(other), further.dated(other));
        }
    }
}
