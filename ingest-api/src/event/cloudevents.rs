//! CloudEvents 1.0.2 over HTTP: structured (`application/cloudevents+json`), one of a batch, and binary (`ce-`
//! headers). All attributes and extensions are kept.

use std::borrow::Cow;

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use shared::domain::event::{JSON, is_json};
use shared::domain::name::check_name;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::domain::field_errors::FieldErrors;
use crate::domain::json::HALF_A_PAIR;
use crate::event::error::EventError;
use crate::event::json::{RawFields, check_depth, is_string, without_mark};
use crate::event::quoted::unquote;
use crate::event::{Identity, NewEvent, check_event_type};

/// The extension attribute of CloudEvents' partitioning, which is our ordering key.
const PARTITION_KEY: &str = "partitionkey";

/// The extension attribute that names the event's tenant.
const TENANT: &str = "tenant";

const HEADER_PREFIX: &str = "ce-";

/// The payload of an event without data. Receivers get it as `"data": null` in either format.
const NO_DATA: &[u8] = b"null";

const REQUIRED: [&str; 4] = ["id", "source", "specversion", "type"];

/// What an attribute's value may take, in bytes; the specification asks for 64 KiB for a whole event.
const MAX_ATTRIBUTE_BYTES: usize = 4 * 1024;

/// Most attributes, the required ones included.
const MAX_ATTRIBUTES: usize = 100;

/// Reads an event in structured mode.
///
/// # Errors
/// When it is not JSON, or with every wrong attribute.
pub(crate) fn parse_structured(body: &[u8]) -> Result<NewEvent<'_>, EventError> {
    let fields = RawFields::read(body, "a JSON object")?;
    let mut reader = Reader::default();
    let (mut data, mut data_base64) = (None, None);
    for (name, field) in &fields.0 {
        match name.as_ref() {
            name if field.repeated => reader.wrong(name, "stands more than once"),
            "data" => data = Some(field.value),
            "data_base64" => data_base64 = Some(field.value),
            name => reader.json_attribute(name, field.value),
        }
    }
    let content_type = reader.text("datacontenttype").unwrap_or(JSON).to_owned();
    let payload = match (data, data_base64) {
        (Some(_), Some(_)) => Err(("data_base64", "must not stand beside `data`".to_owned())),
        (Some(value), None) => json_payload(value, &content_type).map_err(|detail| ("data", detail)),
        (None, Some(value)) => base64_payload(value, &content_type).map_err(|detail| ("data_base64", detail)),
        (None, None) => Ok((NO_DATA.into(), JSON.to_owned())),
    };
    reader.finish(payload)
}

/// A header of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header<'a> {
    /// Its name in lower case.
    pub name: &'a str,
    /// Its first value.
    pub value: &'a [u8],
    /// Whether it has others.
    pub repeated: bool,
}

/// Reads an event in binary mode.
///
/// # Errors
/// With every wrong attribute.
pub(crate) fn parse_binary<'h, 'b>(
    headers: impl Iterator<Item = Header<'h>>,
    content_type: Option<&str>,
    body: &'b [u8],
) -> Result<NewEvent<'b>, EventError> {
    let mut reader = Reader::default();
    for Header {
        name,
        value,
        repeated,
    } in headers
    {
        let Some(attribute) = name.strip_prefix(HEADER_PREFIX) else {
            continue;
        };
        match (attribute, decode_header(value)) {
            ("datacontenttype" | "data" | "data_base64", _) => {
                reader.wrong(name, "is not a header of a CloudEvent in binary mode");
            }
            _ if repeated => reader.wrong(name, "stands more than once"),
            (_, None) => reader.wrong(name, "is not UTF-8 in percent coding"),
            (attribute, Some(value)) => reader.attribute(attribute, Value::String(value)),
        }
    }
    let payload = binary_payload(content_type, body).map_err(|detail| ("body", detail));
    if let Some(content_type) = content_type {
        reader.attribute("datacontenttype", Value::String(content_type.to_owned()));
    }
    reader.finish(payload)
}

/// A payload and its media type, or the field that is wrong and what is wrong with it.
type Payload<'a> = Result<(Cow<'a, [u8]>, String), (&'static str, String)>;

/// `data` as JSON, or as a string that holds text of another media type (JSON format, 3.1.1).
fn json_payload<'a>(value: &'a RawValue, content_type: &str) -> Result<(Cow<'a, [u8]>, String), String> {
    if is_json(content_type) || !is_string(value) {
        check_depth(value.get())?;
        let content_type = if is_json(content_type) { content_type } else { JSON };
        return Ok((value.get().as_bytes().into(), content_type.to_owned()));
    }
    let text: String = serde_json::from_str(value.get()).map_err(|_| HALF_A_PAIR)?;
    Ok((text.into_bytes().into(), content_type.to_owned()))
}

fn base64_payload(value: &RawValue, content_type: &str) -> Result<(Cow<'static, [u8]>, String), String> {
    if !is_string(value) {
        return Err("must be a string".to_owned());
    }
    let text: String = serde_json::from_str(value.get()).map_err(|_| HALF_A_PAIR)?;
    let bytes = BASE64
        .decode(text.as_bytes())
        .map_err(|error| format!("is not base64: {error}"))?;
    let bytes = check_payload(&bytes, content_type)?.to_owned();
    Ok((bytes.into(), content_type.to_owned()))
}

/// The body of an event in binary mode. JSON is never empty, so an empty body is an event without data. A body without a
/// media type is JSON when it parses as JSON.
fn binary_payload<'a>(content_type: Option<&str>, body: &'a [u8]) -> Result<(Cow<'a, [u8]>, String), String> {
    if body.is_empty() && content_type.is_none_or(is_json) {
        return Ok((NO_DATA.into(), content_type.unwrap_or(JSON).to_owned()));
    }
    let without_type = || {
        let is_json = serde_json::from_slice::<&RawValue>(without_mark(body)).is_ok();
        if is_json { JSON } else { "application/octet-stream" }
    };
    let content_type = content_type.unwrap_or_else(without_type);
    Ok((check_payload(body, content_type)?.into(), content_type.to_owned()))
}

/// Checks that a payload of a JSON type is JSON, since it is copied into the webhook's body. Drops a byte order mark.
fn check_payload<'a>(bytes: &'a [u8], content_type: &str) -> Result<&'a [u8], String> {
    if !is_json(content_type) {
        return Ok(bytes);
    }
    let bytes = without_mark(bytes);
    let json: &RawValue =
        serde_json::from_slice(bytes).map_err(|error| format!("is not valid JSON: {error}"))?;
    check_depth(json.get())?;
    Ok(bytes)
}

/// Decodes a header value: a quoted string is unquoted, in which a backslash may stand before any character (RFC 9110,
/// 5.6.4), then percent decoded once (HTTP binding, 3.1.3.2). Most SDKs write texts as they are, so a quote that is not
/// closed and a `%` that starts no escape stand for themselves. None when the result is not UTF-8.
fn decode_header(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let text = unquote(text, |_| true).unwrap_or_else(|| text.trim().into());
    let decoded = percent_decode_str(&text).decode_utf8().ok()?;
    Some(decoded.into_owned())
}

/// Gathers attributes, and what is wrong with them.
#[derive(Debug, Default)]
struct Reader {
    attributes: Map<String, Value>,
    errors: FieldErrors,
    // Required attributes that are present but wrong.
    wrong_required: Vec<&'static str>,
}

impl Reader {
    fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        let attribute = name.strip_prefix(HEADER_PREFIX).unwrap_or(name);
        self.wrong_required
            .extend(REQUIRED.iter().find(|required| **required == attribute));
        self.errors.push(name, detail);
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name).and_then(Value::as_str)
    }

    /// An attribute in the JSON format: a string, boolean or integer; null is as good as absent.
    fn json_attribute(&mut self, name: &str, value: &RawValue) {
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

    fn attribute(&mut self, name: &str, value: Value) {
        if let Err(detail) = check_attribute(name, &value) {
            self.wrong(name, detail);
        } else if self.attributes.len() == MAX_ATTRIBUTES {
            self.wrong(name, format!("is one attribute more than {MAX_ATTRIBUTES}"));
        } else {
            self.attributes.insert(name.to_owned(), value);
        }
    }

    fn finish(mut self, payload: Payload<'_>) -> Result<NewEvent<'_>, EventError> {
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

#[cfg(test)]
mod tests;
