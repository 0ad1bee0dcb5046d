//! Leases: opaque tokens with which consumers acknowledge pulled deliveries.

use data_encoding::BASE64URL_NOPAD;
use shared::domain::clock::UnixMicros;
use shared::domain::id::{EventId, LeaseToken};
use time::OffsetDateTime;
use uuid::Uuid;

const LENGTH: usize = 40;

/// One delivery of an endpoint, held for some time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Lease {
    /// The event.
    pub event_id: EventId,
    /// When it was accepted: this finds the partition of its delivery.
    pub accepted_at: OffsetDateTime,
    /// The token in the delivery's row: the lease holds while it is there.
    pub token: LeaseToken,
}

impl Lease {
    /// The opaque form.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = [0; LENGTH];
        bytes[..16].copy_from_slice(self.event_id.as_uuid().as_bytes());
        bytes[16..24].copy_from_slice(&UnixMicros::from(self.accepted_at).get().to_be_bytes());
        bytes[24..].copy_from_slice(self.token.as_uuid().as_bytes());
        BASE64URL_NOPAD.encode(&bytes)
    }

    /// Reads the opaque form. None for other text.
    pub(crate) fn decode(text: &str) -> Option<Self> {
        let bytes = BASE64URL_NOPAD.decode(text.as_bytes()).ok()?;
        let bytes: [u8; LENGTH] = bytes.try_into().ok()?;
        let (event_id, rest) = bytes.split_first_chunk::<16>()?;
        let (at, token) = rest.split_first_chunk::<8>()?;
        // A forged token must not hold a time that Postgres cannot represent.
        let accepted_at = Some(i64::from_be_bytes(*at)).filter(|micros| *micros >= 0)?;
        Some(Self {
            event_id: Uuid::from_bytes(*event_id).into(),
            accepted_at: UnixMicros::new(accepted_at).to_date_time(),
            token: Uuid::from_slice(token).ok()?.into(),
        })
    }

    /// When the delivery was leased, to the millisecond: its token tells.
    pub(crate) fn leased_at(&self) -> OffsetDateTime {
        let token = Some(self.token.as_uuid()).filter(|token| token.get_version_num() == 7);
        let time = token.and_then(|token| token.get_timestamp());
        let (seconds, nanos) = time.map_or((0, 0), |time| time.to_unix());
        let micros = seconds * 1_000_000 + u64::from(nanos / 1_000);
        UnixMicros::new(i64::try_from(micros).unwrap_or(i64::MAX)).to_date_time()
    }
}

/// The token of leases that begin now.
pub(crate) fn new_token() -> LeaseToken {
    Uuid::now_v7().into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_lease_comes_back(event in any::<u128>(), token in any::<u128>(), micros in 0i64..4_102_444_800_000_000) {
            let lease = Lease {
                event_id: Uuid::from_u128(event).into(),
                accepted_at: UnixMicros::new(micros).to_date_time(),
                token: Uuid::from_u128(token).into(),
            };
            prop_assert_eq!(Lease::decode(&lease.encode()), Some(lease));
        }

        #[test]
        fn a_lease_that_was_made_up_holds_only_times_that_the_database_knows(
            bytes in proptest::collection::vec(any::<u8>(), LENGTH),
        ) {
            if let Some(lease) = Lease::decode(&BASE64URL_NOPAD.encode(&bytes)) {
                prop_assert!((1_970..=9_999).contains(&lease.accepted_at.year()));
                prop_assert!((1_970..=9_999).contains(&lease.leased_at().year()));
            }
        }

        #[test]
        fn no_text_makes_the_decoder_panic(text in ".{0,60}") {
            let _ = Lease::decode(&text);
        }
    }

    #[test]
    fn a_lease_tells_when_it_began() {
        let now = || UnixMicros::now().get() / 1_000;
        let (before, token, after) = (now(), new_token(), now());
        let lease = Lease {
            event_id: Uuid::nil().into(),
            accepted_at: OffsetDateTime::UNIX_EPOCH,
            token,
        };
        let leased_at = UnixMicros::from(lease.leased_at()).get() / 1_000;
        assert!((before..=after).contains(&leased_at));
    }
}
