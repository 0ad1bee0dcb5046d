//! The forms in which events come, and what of them is accepted.
//!
//! Imports `domain`. Knows no HTTP.

pub(crate) mod error;
pub(crate) mod json;
pub(crate) mod quoted;
pub mod envelope;
pub(crate) mod cloudevents;
pub(crate) mod batch;
pub(crate) mod recent_ids;

use shared::domain::event::OPERATIONAL_TYPES;
use shared::domain::id::{EventId, OrgId};
use shared::domain::name::check_name;

pub use self::envelope::{Identity, NewEvent};

/// Largest event, envelope included, in bytes.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// The ids that an event with this key has: of a producer's key, and of the `source` and `id` of a CloudEvent, which are shown
/// as a JSON array in its place.
pub(crate) fn ids_of_key(org_id: OrgId, tenant: Option<&str>, key: &str) -> Vec<EventId> {
    let mut ids = vec![EventId::for_key(org_id, tenant, key)];
    if let Ok([source, id]) = serde_json::from_str::<[String; 2]>(key) {
        ids.push(EventId::for_cloudevent(org_id, tenant, &source, &id));
    }
    ids
}

/// Checks the type of an event that a producer sends: none of Penstock's own.
///
/// # Errors
/// With what is wrong.
pub fn check_event_type(event_type: &str) -> Result<(), &'static str> {
    check_any_event_type(event_type)?;
    if OPERATIONAL_TYPES.contains(&event_type) {
        return Err("is reserved for Penstock's own events");
    }
    Ok(())
}

/// Checks an event type: any text without white space, `*` and `>`, which are wildcards in filters.
///
/// # Errors
/// With what is wrong.
pub(crate) fn check_any_event_type(event_type: &str) -> Result<(), &'static str> {
    check_name(event_type)?;
    if event_type.contains(['*', '>']) {
        return Err("must not contain `*` or `>`: they are wildcards in filters");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use shared::domain::clock::UnixMicros;
    use shared::domain::event::TraceContext;

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
}
