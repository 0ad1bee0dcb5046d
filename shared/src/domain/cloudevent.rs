//! The attributes with which an event is shown as a CloudEvent 1.0.

use serde_json::{Map, Value};

use crate::domain::clock::Timestamp;
use crate::domain::event::{Event, is_json};

/// An event's attributes, which are never empty. One that came as a CloudEvent keeps those that its producer gave it.
pub fn attributes(event: &Event<'_>) -> Map<String, Value> {
    let own = event.cloudevent.and_then(own_attributes);
    let mut attributes = own.unwrap_or_else(|| made_attributes(event));
    if !is_json(event.content_type) {
        // Without the attribute it would be taken for JSON.
        let content_type = attributes.entry("datacontenttype");
        content_type.or_insert_with(|| event.content_type.into());
    }
    attributes
}

/// The attributes of an event that did not come as a CloudEvent.
fn made_attributes(event: &Event<'_>) -> Map<String, Value> {
    let source = format!("urn:penstock:organization:{}", event.org_id);
    let time = Timestamp(event.accepted_at.to_date_time()).to_string();
    let attributes = [
        ("specversion", Some("1.0".to_owned())),
        ("id", Some(event.id.to_string())),
        ("source", Some(source)),
        ("type", Some(event.event_type.to_owned())),
        ("time", Some(time)),
        ("datacontenttype", Some(event.content_type.to_owned())),
        ("partitionkey", event.ordering_key.map(str::to_owned)),
    ];
    let present = attributes
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
    present.collect()
}

/// The attributes in a JSON text; `None` when it is not what the ingest API writes.
fn own_attributes(text: &str) -> Option<Map<String, Value>> {
    let attributes: Map<_, _> = serde_json::from_str(text).ok()?;
    attributes.contains_key("specversion").then_some(attributes)
}
