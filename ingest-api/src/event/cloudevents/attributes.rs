//! The attributes of a CloudEvent.

use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::domain::name::check_name;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{HEADER_PREFIX, Payload};
use crate::domain::form::field_errors::FieldErrors;
use crate::domain::form::json::HALF_A_PAIR;
use crate::event::error::EventError;
use crate::event::json::is_string;
use crate::event::{Identity, NewEvent, check_event_type};

/// The extension attribute of CloudEvents' partitioning, which is our ordering key.
const PARTITION_KEY: &str = "partitionkey";

/// The extension attribute that names the event's tenant.
const TENANT: &str = "tenant";

const REQUIRED: [&str; 4] = ["id", "source", "specversion", "type"];

/// What an attribute's value may take, in bytes; the specification asks for 64 KiB for a whole event.
const MAX_ATTRIBUTE_BYTES: usize = 4 * 1024;

/// Most attributes, the required ones included.
const MAX_ATTRIBUTES: usize = 100;

/// Gathers attributes, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Reader {
    attributes: Map<String, Value>,
    errors: FieldErrors,
    // Required attributes that are present but wrong.
    wrong_required: Vec<&'static str>,
}

impl Reader {
    /// Notes what is wrong with an attribute, or with the header of one.
    pub(super) fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        let attribute = name.strip_prefix(HEADER_PREFIX).unwrap_or(name);
        self.wrong_required
            .extend(REQUIRED.iter().find(|required| **required == attribute));
        self.errors.push(name, detail);
    }

    /// The value of an attribute that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    /// An attribute in the JSON format: a string, boolean or integer; null is as good as absent.
    pub(super) fn json_attribute(&mut self, name: &str, value: &RawValue) {
        match serde_json::from_str(value.get()) {
            Ok(Value::Null) => {}
            Ok(value @ (Value::String(_) | Value::Bool(_))) => self.attribute(name, value),
            Ok(Value::Number(number)) if number.as_i64().is_some_and(|n| i32::try_from(n).is_ok()) => {
                self.attribute(name, Value::Number(number));
            }
            Err(_) if is_string(value) => self.wrong(name, HALF_A_PAIR),
            _ => self.wrong(name, "must be a string, a boolean or a 32-bit integer"),
        }
    }

    /// Takes in an attribute.
    pub(super) fn attribute(&mut self, name: &str, value: Value) {
        if let Err(detail) = check_attribute(name, &value) {
            self.wrong(name, detail);
        } else if self.attributes.len() == MAX_ATTRIBUTES {
            self.wrong(name, format!("is one attribute more than {MAX_ATTRIBUTES}"));
        } else {
            self.attributes.insert(name.to_owned(), value);
        }
    }

    /// The event with these attributes and a payload.
    ///
    /// # Errors
    /// With everything that is wrong.
    pub(super) fn finish(mut self, payload: Payload<'_>) -> Result<NewEvent<'_>, EventError> {
        for required in REQUIRED {
            if self.text(required).is_none() && !self.wrong_required.contains(&required) {
                self.wrong(required, "is missing");
            }
        }
        let (data, content_type) = match payload {
            Ok(payload) => payload,
            Err((field, detail)) => {
                self.wrong(field, detail);
                Default::default()
            }
        };
        std::mem::take(&mut self.errors).finish()?;
        let text = |name| self.text(name).unwrap_or_default().to_owned();
        let plain = NewEvent::of_json(text("type"), data);
        Ok(NewEvent {
            content_type: content_type.into(),
            identity: Identity::CloudEvent {
                source: text("source").into(),
                id: text("id").into(),
            },
            ordering_key: self.text(PARTITION_KEY).map(|key| key.to_owned().into()),
            tenant: self.text(TENANT).map(|tenant| tenant.to_owned().into()),
            cloudevent: Some(Value::Object(self.attributes).to_string()),
            ..plain
        })
    }
}

fn check_attribute(name: &str, value: &Value) -> Result<(), String> {
    let is_name = |name: &str| name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9'));
    if !(1..=64).contains(&name.len()) || !is_name(name) {
        return Err("attribute names are 1 to 64 lower-case letters and digits".to_owned());
    }
    let Some(text) = value.as_str() else {
        let must_be_text = [
            "id",
            "source",
            "specversion",
            "type",
            "subject",
            "time",
            "dataschema",
            "datacontenttype",
            PARTITION_KEY,
            TENANT,
        ];
        return if must_be_text.contains(&name) {
            Err("must be a string".to_owned())
        } else {
            Ok(())
        };
    };
    if text.len() > MAX_ATTRIBUTE_BYTES {
        return Err(format!("must not be longer than {MAX_ATTRIBUTE_BYTES} bytes"));
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".to_owned());
    }
    match name {
        "specversion" if text != "1.0" => Err("must be \"1.0\"".to_owned()),
        "type" => check_event_type(text).map_err(str::to_owned),
        PARTITION_KEY | TENANT => check_name(text).map_err(str::to_owned),
        "id" | "source" | "subject" | "dataschema" | "datacontenttype" if text.is_empty() => {
            Err("must not be empty".to_owned())
        }
        "time" => match OffsetDateTime::parse(text, &Rfc3339) {
            Ok(_) => Ok(()),
            Err(_) => Err("must be a time as in RFC 3339".to_owned()),
        },
        _ => Ok(()),
    }
}
