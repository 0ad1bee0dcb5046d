//! Frames: the JetStream messages that carry events.
//!
//! A server that syncs every publish to disk does one sync per message, whatever its size; so the ingest
//! API packs the events that arrive while the previous message is in flight into one. A frame is a
//! MessagePack array of byte strings, one an event, each a MessagePack map: an event that cannot be read
//! does not spoil its neighbours. The frame's version stands in a message header.

use bytes::Bytes;
use thiserror::Error;

use crate::domain::event::Event;
use crate::wire::stream::Spread;

/// Message header that holds the frame's version.
pub const VERSION_HEADER: &str = "Penstock-Frame-Version";

/// The header of a frame that was sent before, without an acknowledgement. Both messages may be in the stream.
pub const RESENT_HEADER: &str = "Penstock-Frame-Resent";

/// The version of a frame whose events any release can deliver.
pub const VERSION: &str = "1";

/// The version of a frame with an event of a tenant. A release that knows no tenants would deliver it to all endpoints of
/// the organisation; it does not read such a frame.
pub const VERSION_WITH_TENANTS: &str = "2";

/// The most events that go into one frame.
pub const MAX_EVENTS: usize = 1_000;

/// The most bytes of encoded events that go into one frame, unless a single event is larger. Below NATS's
/// default `max_payload` of 1 MiB, with room for the headers.
pub const MAX_BYTES: usize = 512 * 1024;

/// One event in its wire form.
#[derive(Debug)]
pub struct EncodedEvent {
    bytes: Vec<u8>,
    spread: Spread,
    has_tenant: bool,
}

impl EncodedEvent {
    /// Encodes an event.
    pub fn new(event: &Event<'_>) -> Self {
        // The map's keys, numbers and markers take about 150 bytes.
        let mut bytes = Vec::with_capacity(event.data.len() + event.event_type.len() + 192);
        event
            .serialize_into(&mut bytes)
            .expect("writing to a Vec does not fail and every field has a MessagePack form");
        Self {
            bytes,
            spread: Spread::of(event),
            has_tenant: event.tenant.is_some(),
        }
    }

    /// Which stream it goes to.
    pub fn spread(&self) -> Spread {
        self.spread
    }

    /// Size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "an encoded event is never empty")]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }
}

impl Event<'_> {
    fn serialize_into(&self, bytes: &mut Vec<u8>) -> Result<(), rmp_serde::encode::Error> {
        use serde::Serialize as _;
        self.serialize(&mut rmp_serde::Serializer::new(bytes).with_struct_map())
    }
}

/// The version of a frame of these events.
pub fn version<'a>(mut events: impl Iterator<Item = &'a EncodedEvent>) -> &'static str {
    if events.any(|event| event.has_tenant) {
        VERSION_WITH_TENANTS
    } else {
        VERSION
    }
}

/// Whether this build reads frames of a version.
pub fn is_known(version: Option<&str>) -> bool {
    matches!(version, Some(VERSION | VERSION_WITH_TENANTS))
}

/// Packs events into one message payload.
///
/// # Panics
/// With more than `u32::MAX` events, which [`MAX_EVENTS`] excludes.
pub fn encode<'a>(events: impl ExactSizeIterator<Item = &'a EncodedEvent> + Clone) -> Bytes {
    pack(events.map(|event| event.bytes.as_slice()))
}

/// Packs events that stood in a frame, whatever their bytes are.
///
/// # Panics
/// As [`encode`].
pub fn pack<'a>(events: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Bytes {
    const LONGEST_LENGTH_PREFIX: usize = 5;
    let size: usize = events
        .clone()
        .map(|event| event.len() + LONGEST_LENGTH_PREFIX)
        .sum();
    let mut bytes = Vec::with_capacity(size + LONGEST_LENGTH_PREFIX);
    let count = u32::try_from(events.len()).expect("a frame holds at most MAX_EVENTS");
    rmp::encode::write_array_len(&mut bytes, count).expect("writing to a Vec does not fail");
    for event in events {
        rmp::encode::write_bin(&mut bytes, event).expect("writing to a Vec does not fail");
    }
    bytes.into()
}

/// How many events a message payload says that it has; 0 when it is no frame.
pub fn count(mut payload: &[u8]) -> usize {
    rmp::decode::read_array_len(&mut payload).map_or(0, |count| count as usize)
}

/// Why a whole frame cannot be read.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// Written by a newer release, or not by Penstock at all.
    #[error(
        "frame version {0:?} is not known to this build (it reads versions {VERSION} and {VERSION_WITH_TENANTS})"
    )]
    UnknownVersion(Option<String>),
    /// Not an array of byte strings.
    #[error("not a frame: {0}")]
    Malformed(String),
}

/// Why one event of a frame cannot be read, with its bytes.
#[derive(Debug, Error)]
#[error("not an event: {reason}")]
pub struct EventError<'a> {
    /// What the decoder said.
    pub reason: String,
    /// The event's bytes as they stood in the frame.
    pub bytes: &'a [u8],
}

/// Unpacks a message payload. The events borrow from it.
///
/// # Errors
/// [`FrameError`] when the frame as a whole cannot be read; the inner results tell of single events.
pub fn decode<'a>(
    version: Option<&str>,
    payload: &'a [u8],
) -> Result<Vec<Result<Event<'a>, EventError<'a>>>, FrameError> {
    if !is_known(version) {
        return Err(FrameError::UnknownVersion(version.map(str::to_owned)));
    }
    let events: Vec<&'a serde_bytes::Bytes> =
        rmp_serde::from_slice(payload).map_err(|error| FrameError::Malformed(error.to_string()))?;
    Ok(events.into_iter().map(|bytes| decode_event(bytes)).collect())
}

fn decode_event(bytes: &[u8]) -> Result<Event<'_>, EventError<'_>> {
    rmp_serde::from_slice(bytes).map_err(|error| EventError {
        reason: error.to_string(),
        bytes,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn event<'a>(event_type: &'a str, key: Option<&'a str>, data: &'a [u8]) -> Event<'a> {
        Event {
            event_type,
            idempotency_key: key,
            data,
            ..Event::sample()
        }
    }

    proptest! {
        #[test]
        fn events_come_out_of_a_frame_as_they_went_in(
            parts in proptest::collection::vec(
                (".{1,40}", proptest::option::of(".{1,40}"), proptest::collection::vec(any::<u8>(), 0..300)),
                0..20,
            ),
        ) {
            let events: Vec<_> =
                parts.iter().map(|(kind, key, data)| event(kind, key.as_deref(), data)).collect();
            let encoded: Vec<_> = events.iter().map(EncodedEvent::new).collect();
            let payload = encode(encoded.iter());
            let decoded: Vec<_> =
                decode(Some(VERSION), &payload).unwrap().into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(decoded, events);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(Some(VERSION), &bytes);
        }

        #[test]
        fn a_cut_frame_is_an_error(cut in 0usize..200) {
            let payload = encode([EncodedEvent::new(&event("a", None, &[7; 100]))].iter());
            prop_assume!(cut < payload.len());
            prop_assert!(decode(Some(VERSION), &payload[..cut]).is_err());
        }
    }

    #[test]
    fn one_unreadable_event_leaves_its_neighbours_readable() {
        let good = EncodedEvent::new(&event("order.created", None, b"{}"));
        let payload = pack([&good.bytes, &[0xc1, 0xff][..], &good.bytes].into_iter());
        let decoded = decode(Some(VERSION), &payload).unwrap();
        assert!(decoded[0].is_ok() && decoded[2].is_ok());
        assert_eq!(decoded[1].as_ref().unwrap_err().bytes, [0xc1, 0xff]);
    }

    #[test]
    fn a_frame_without_events_is_one() {
        let empty = encode(std::iter::empty());
        assert!(decode(Some(VERSION), &empty).unwrap().is_empty());
        assert_eq!(count(&empty), 0);
    }

    #[test]
    fn a_trace_context_comes_out_as_it_went_in_and_has_no_bytes_where_there_is_none() {
        let plain = Event::sample();
        let traced = Event {
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            tracestate: Some("a=1"),
            baggage: Some("k=v"),
            ..plain
        };
        let bytes = EncodedEvent::new(&traced).bytes;
        assert_eq!(decode_event(&bytes).unwrap(), traced);
        let bytes = EncodedEvent::new(&plain).bytes;
        for name in ["traceparent", "tracestate", "baggage"] {
            assert!(!bytes.windows(name.len()).any(|part| part == name.as_bytes()));
        }
    }

    #[test]
    fn a_field_of_a_later_release_is_skipped() {
        #[derive(serde::Serialize)]
        struct Later<'a> {
            #[serde(flatten)]
            event: Event<'a>,
            priority: u8,
        }
        let event = event("order.created", Some("k"), b"[1]");
        let bytes = rmp_serde::to_vec_named(&Later { event, priority: 3 }).unwrap();
        assert_eq!(decode_event(&bytes).unwrap(), event);
    }

    #[test]
    fn only_a_frame_with_an_event_of_a_tenant_has_the_later_version() {
        let plain = EncodedEvent::new(&Event::sample());
        let of_tenant = EncodedEvent::new(&Event {
            tenant: Some("acme"),
            ..Event::sample()
        });
        assert_eq!(version([&plain, &plain].into_iter()), VERSION);
        assert_eq!(version([&plain, &of_tenant].into_iter()), VERSION_WITH_TENANTS);
        let payload = encode([&plain, &of_tenant].into_iter());
        let decoded = decode(Some(VERSION_WITH_TENANTS), &payload).unwrap();
        assert_eq!(decoded[1].as_ref().unwrap().tenant, Some("acme"));
    }

    #[test]
    fn another_version_is_refused() {
        assert_eq!(
            decode(Some("3"), &[0x90]).unwrap_err(),
            FrameError::UnknownVersion(Some("3".into()))
        );
        assert_eq!(
            decode(None, &[0x90]).unwrap_err(),
            FrameError::UnknownVersion(None)
        );
    }
}
