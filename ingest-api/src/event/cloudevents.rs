//! CloudEvents 1.0.2 over HTTP: structured (`application/cloudevents+json`), one of a batch, and binary (`ce-`
//! headers). All attributes and extensions are kept.

mod attributes;

use std::borrow::Cow;

use data_encoding::BASE64;
use percent_encoding::percent_decode_str;
use serde_json::Value;
use serde_json::value::RawValue;
use shared::domain::event::{JSON, is_json};

use self::attributes::Reader;
use crate::domain::form::json::HALF_A_PAIR;
use crate::event::NewEvent;
use crate::event::error::EventError;
use crate::event::json::{RawFields, check_depth, is_string, without_mark};
use crate::event::quoted::unquote;

const HEADER_PREFIX: &str = "ce-";

/// The payload of an event without data. Receivers get it as `"data": null` in either format.
const NO_DATA: &[u8] = b"null";

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

#[cfg(test)]
mod tests;
