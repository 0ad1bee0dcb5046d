//! The attributes with which an event is shown as a CloudEvent 1.0.

use serde_json::{Map, Value};

use crate::domain::clock::{Timestamp, UnixMicros};
use crate::domain::event;
use crate::domain::id::{EventId, OrgId};

/// What the attributes are made of.
#[derive(Clone, Copy, Debug)]
pub struct Described<'a> {
    pub id: EventId,
    pub org_id: OrgId,
    pub event_type: &'a str,
    pub accepted_at: UnixMicros,
    /// Media type of the payload.
    pub content_type: &'a str,
    /// The attributes of an event that came as a CloudEvent, as a JSON object.
    pub cloudevent: Option<&'a str>,
    pub ordering_key: Option<&'a str>,
}

impl Described<'_> {
    /// The attributes, which are never empty. An event that came as a CloudEvent keeps those that its producer gave it.
    pub fn attributes(&self) -> Map<String, Value> {
        let own = self.cloudevent.and_then(own_attributes);
        let mut attributes = own.unwrap_or_else(|| self.made());
        if !event::is_json(self.content_type) {
            // Without the attribute it would be taken for JSON.
            let content_type = attributes.entry("datacontenttype");
            content_type.or_insert_with(|| self.content_type.into());
        }
        attributes
    }

    /// The attributes of an event that did not come as a CloudEvent.
    fn made(&self) -> Map<String, Value> {
        let source = format!("urn:penstock:organization:{}", self.org_id);
        let time = Timestamp(self.accepted_at.to_date_time()).to_string();
        let attributes = [
            ("specversion", Some("1.0".to_owned())),
            ("id", Some(self.id.to_string())),
            ("source", Some(source)),
            ("type", Some(self.event_type.to_owned())),
            ("time", Some(time)),
            ("datacontenttype", Some(self.content_type.to_owned())),
            ("partitionkey", self.ordering_key.map(str::to_owned)),
        ];
        let present = attributes
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.into())));
        present.collect()
    }
}

/// The attributes in a JSON text; `None` when it is not what the ingest API writes.
fn own_attributes(text: &str) -> Option<Map<String, Value>> {
    let attributes: Map<_, _> = serde_json::from_str(text).ok()?;
    attributes.contains_key("specversion").then_some(attributes)
}
