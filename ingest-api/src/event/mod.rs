//! A valid event on its way into a frame, whichever form it came in.
//!
//! Imports `domain`. Knows no HTTP.

pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod quoted;
pub mod envelope;
pub(crate) mod cloudevents;
pub(crate) mod batch;
pub(crate) mod recent_ids;

use std::borrow::Cow;

use shared::domain::clock::UnixMicros;
use shared::domain::event::{Event, JSON, OPERATIONAL_TYPES, TraceContext};
use shared::domain::id::{EndpointId, EventId, OrgId};
use shared::domain::name::check_name;
use shared::wire::frame::EncodedEvent;

/// Largest event, envelope included, in bytes.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// What makes a repeat of an event a repeat.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity<'a> {
    /// No key: each time it is sent it is a new event.
    Unique,
    /// The producer's idempotency key.
    Key(Cow<'a, str>),
    /// A CloudEvent's `source` and `id`.
    CloudEvent {
        /// `source`.
        source: Cow<'a, str>,
        /// `id`.
        id: Cow<'a, str>,
    },
}

/// An event that may be accepted.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    /// Its type.
    pub event_type: Cow<'a, str>,
    /// Media type of `data`.
    pub content_type: Cow<'a, str>,
    /// The payload's bytes.
    pub data: Cow<'a, [u8]>,
    /// What makes a repeat a repeat.
    pub identity: Identity<'a>,
    /// The context attributes of a CloudEvent, as a JSON object.
    pub cloudevent: Option<String>,
    /// Ordered endpoints get the events of one key one after another.
    pub ordering_key: Option<Cow<'a, str>>,
    /// The only endpoint that gets it. None: every endpoint that wants it.
    pub only_to: Option<EndpointId>,
    /// The organisation's customer whose event it is.
    pub tenant: Option<Cow<'a, str>>,
}

impl<'a> NewEvent<'a> {
    /// A JSON event for every endpoint of no tenant, in no order and unlike any other.
    pub fn of_json(event_type: impl Into<Cow<'a, str>>, data: impl Into<Cow<'a, [u8]>>) -> Self {
        Self {
            event_type: event_type.into(),
            content_type: JSON.into(),
            data: data.into(),
            identity: Identity::Unique,
            cloudevent: None,
            ordering_key: None,
            only_to: None,
            tenant: None,
        }
    }
}

impl NewEvent<'_> {
    /// Gives the event its id and its wire form.
    pub fn encode(
        &self,
        org_id: OrgId,
        accepted_at: UnixMicros,
        trace: TraceContext<'_>,
    ) -> (EventId, EncodedEvent) {
        let tenant = self.tenant.as_deref();
        let (id, key) = match &self.identity {
            Identity::Unique => (EventId::at(accepted_at), None),
            Identity::Key(key) => (
                EventId::for_key(org_id, tenant, key),
                Some(Cow::Borrowed(key.as_ref())),
            ),
            Identity::CloudEvent { source, id } => {
                let key = serde_json::to_string(&[source, id]).expect("strings can be written as JSON");
                (
                    EventId::for_cloudevent(org_id, tenant, source, id),
                    Some(Cow::Owned(key)),
                )
            }
        };
        let event = Event {
            id,
            org_id,
            event_type: &self.event_type,
            accepted_at,
            content_type: &self.content_type,
            idempotency_key: key.as_deref(),
            traceparent: trace.traceparent,
            tracestate: trace.tracestate,
            baggage: trace.baggage,
            cloudevent: self.cloudevent.as_deref(),
            ordering_key: self.ordering_key.as_deref(),
            only_to: self.only_to,
            tenant,
            data: &self.data,
        };
        (id, EncodedEvent::new(&event))
    }
}

/// The ids that an event with this key has: of a producer's key, and of the `source` and `id` of a CloudEvent, which are shown
/// as a JSON array in its place.
pub(crate) fn ids_of_key(org_id: OrgId, tenant: Option<&str>, key: &str) -> Vec<EventId> {
    let mut ids = vec![EventId::for_key(org_id, tenant, key)];
    if let Ok([source, id]) = serde_json::from_str::<[String; 2]>(key) {
        ids.push(EventId::for_cloudevent(org_id, tenant, &source, &id));
    }
    ids
}

/// Checks an event type: any text without white space, `*` and `>`, which are wildcards in filters.
///
/// # Errors
/// With what is wrong.
pub fn check_event_type(event_type: &str) -> Result<(), &'static str> {
    check_name(event_type)?;
    if event_type.contains(['*', '>']) {
        return Err("must not contain `*` or `>`: they are wildcards in filters");
    }
    if OPERATIONAL_TYPES.contains(&event_type) {
        return Err("is reserved for Penstock's own events");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::wire::frame;

    use super::*;

    #[test]
    fn an_event_is_found_by_the_key_that_is_shown_of_it() {
        let org_id = OrgId::generate();
        let identities = [
            (Identity::Key("k".into()), "k"),
            (Identity::Key(r#"["a","b"]"#.into()), r#"["a","b"]"#),
            (
                Identity::CloudEvent {
                    source: "a".into(),
                    id: "b".into(),
                },
                r#"["a","b"]"#,
            ),
        ];
        for (identity, shown) in identities {
            for tenant in [None, Some("acme")] {
                let event = NewEvent {
                    identity: identity.clone(),
                    tenant: tenant.map(Into::into),
                    ..NewEvent::of_json("a", b"1".as_slice())
                };
                let (id, _) = event.encode(org_id, UnixMicros::now(), TraceContext::default());
                assert!(
                    ids_of_key(org_id, tenant, shown).contains(&id),
                    "{shown} {tenant:?}"
                );
                assert!(!ids_of_key(org_id, Some("other"), shown).contains(&id));
            }
        }
    }

    #[test]
    fn the_ordering_key_and_the_only_endpoint_travel_with_the_event() {
        let endpoint_id = EndpointId::generate();
        let event = NewEvent {
            ordering_key: Some("k".into()),
            only_to: Some(endpoint_id),
            ..NewEvent::of_json("a", b"1".as_slice())
        };
        let (_, encoded) = event.encode(OrgId::generate(), UnixMicros::now(), TraceContext::default());
        let payload = frame::encode([&encoded].into_iter());
        let decoded = frame::decode(Some(frame::VERSION), &payload).unwrap();
        let decoded = decoded[0].as_ref().unwrap();
        assert_eq!(
            (decoded.ordering_key, decoded.only_to),
            (Some("k"), Some(endpoint_id))
        );
    }

    #[test]
    fn two_tenants_equal_keys_name_two_events() {
        let org_id = OrgId::generate();
        let identities = [
            Identity::Key("k".into()),
            Identity::CloudEvent {
                source: "/s".into(),
                id: "1".into(),
            },
        ];
        for identity in identities {
            let id = |tenant: Option<&'static str>| {
                let event = NewEvent {
                    identity: identity.clone(),
                    tenant: tenant.map(Into::into),
                    ..NewEvent::of_json("a", b"1".as_slice())
                };
                event.encode(org_id, UnixMicros::now(), TraceContext::default()).0
            };
            assert_eq!(id(Some("one")), id(Some("one")));
            assert_ne!(id(Some("one")), id(Some("other")));
            assert_ne!(id(Some("one")), id(None));
        }
    }

    #[test]
    fn a_key_and_a_cloudevent_of_the_same_text_are_different_events() {
        let org_id = OrgId::generate();
        let event = |identity| NewEvent {
            identity,
            ..NewEvent::of_json("a", b"1".as_slice())
        };
        let now = UnixMicros::now();
        let id = |identity| event(identity).encode(org_id, now, TraceContext::default()).0;
        let cloudevent = || Identity::CloudEvent {
            source: "/s".into(),
            id: "1".into(),
        };
        assert_eq!(id(cloudevent()), id(cloudevent()));
        assert_ne!(id(cloudevent()), id(Identity::Key(r#"["/s","1"]"#.into())));
        assert_ne!(id(Identity::Unique), id(Identity::Unique));
    }
}
