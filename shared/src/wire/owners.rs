//! Whose the events of a frame are, as far as its bytes say: also of events and frames that this build cannot read.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;

use crate::domain::id::OrgId;
use crate::domain::name::Tenant;
use crate::wire::frame;

/// What an event says of its owner, whatever else stands in it.
#[derive(Debug, Deserialize)]
struct Owned<'a> {
    #[serde(rename = "org")]
    org_id: OrgId,
    #[serde(borrow, default)]
    tenant: Option<&'a str>,
}

/// The organisation of an event, and its tenant if it has one. `None` when the event's bytes do not say. A name that no
/// tenant can have counts as none.
pub fn of_event(bytes: &[u8]) -> Option<(OrgId, Option<Tenant>)> {
    let Owned { org_id, tenant } = rmp_serde::from_slice(bytes).ok()?;
    Some((org_id, tenant.and_then(|tenant| tenant.parse().ok())))
}

/// Splits a frame of any version into a frame for each owner, with the owner's events in their order. A frame of one owner
/// stays as it is. `None` when it is no list of events that all say whose they are.
pub fn by_owner(payload: &[u8]) -> Option<BTreeMap<(OrgId, Option<Tenant>), Bytes>> {
    let events: Vec<&serde_bytes::Bytes> = rmp_serde::from_slice(payload).ok()?;
    let mut owners = BTreeMap::<_, Vec<&[u8]>>::new();
    for event in events {
        owners.entry(of_event(event)?).or_default().push(event);
    }
    if owners.is_empty() {
        return None;
    }
    let is_of_one = owners.len() == 1;
    let frame_of = |events: Vec<&[u8]>| {
        if is_of_one {
            Bytes::copy_from_slice(payload)
        } else {
            frame::pack(events.into_iter())
        }
    };
    let frames = owners
        .into_iter()
        .map(|(owner, events)| (owner, frame_of(events)));
    Some(frames.collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;
    use crate::domain::event::Event;
    use crate::wire::frame::EncodedEvent;

    fn frame_of(events: &[Event<'_>]) -> Bytes {
        let events: Vec<_> = events.iter().map(EncodedEvent::new).collect();
        frame::encode(events.iter())
    }

    fn tenant(uid: &str) -> Option<Tenant> {
        uid.parse().ok()
    }

    fn of_tenant(event: Event<'static>, uid: &'static str) -> Event<'static> {
        Event {
            tenant: Some(uid),
            ..event
        }
    }

    #[test]
    fn an_event_that_cannot_be_read_says_whose_it_is() {
        #[derive(Serialize)]
        struct Later {
            id: &'static str,
            org: OrgId,
            tenant: &'static str,
        }
        let later = |tenant| Later {
            id: "of another kind",
            org: Event::sample().org_id,
            tenant,
        };
        let (good, bad) = (later("acme"), later("a b"));
        let bytes = rmp_serde::to_vec_named(&good).unwrap();
        assert!(rmp_serde::from_slice::<Event<'_>>(&bytes).is_err());
        assert_eq!(of_event(&bytes), Some((good.org, tenant("acme"))));
        let bytes = rmp_serde::to_vec_named(&bad).unwrap();
        assert_eq!(of_event(&bytes), Some((bad.org, None)));
    }

    #[test]
    fn a_frame_is_split_into_one_for_each_owner() {
        let (one, two) = (Event::sample(), Event::sample());
        let (a, b) = (of_tenant(one, "a"), of_tenant(one, "b"));
        let frames = by_owner(&frame_of(&[a, one, two, b, a, two])).unwrap();
        let expected = [
            ((one.org_id, None), frame_of(&[one])),
            ((one.org_id, tenant("a")), frame_of(&[a, a])),
            ((one.org_id, tenant("b")), frame_of(&[b])),
            ((two.org_id, None), frame_of(&[two, two])),
        ];
        assert_eq!(frames, BTreeMap::from(expected));
    }

    #[test]
    fn a_frame_of_one_owner_stays_as_it_is_and_so_does_one_that_does_not_say_whose_all_of_it_is() {
        let event = rmp_serde::to_vec_named(&Event::sample()).unwrap();
        // Longer than it has to be: an array of 16 bits' length.
        let head = [0xdc, 0, 1, 0xc4, u8::try_from(event.len()).unwrap()];
        let one = [&head[..], &event].concat();
        let frames = by_owner(&one).unwrap();
        assert_eq!(frames.into_values().collect::<Vec<_>>(), [one]);
        let silent = frame::pack([&*event, b"\xc1"].into_iter());
        for other in [&silent[..], &frame::encode(std::iter::empty()), b"\xc1", b""] {
            assert_eq!(by_owner(other), None);
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = (of_event(&bytes), by_owner(&bytes));
        }
    }
}
