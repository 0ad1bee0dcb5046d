//! What a template sees of an event.

use std::collections::BTreeMap;

use minijinja::Value;
use serde_json::value::RawValue;

use crate::domain::clock::Timestamp;
use crate::domain::event::{Event, is_json};

/// The variables of a template. `data` is there when the payload is JSON, and `data_text` when it is text.
pub(super) fn of(event: &Event<'_>) -> Value {
    let text = std::str::from_utf8(event.data).ok();
    let data = text.filter(|_| is_json(event.content_type)).and_then(plain);
    let time = Timestamp(event.accepted_at.to_date_time());
    let or_none = |text: Option<&str>| text.map_or(Value::from(()), Value::from);
    Value::from_pairs([
        ("id", Value::from(event.id.to_string())),
        ("type", Value::from(event.event_type)),
        ("time", Value::from(time.to_string())),
        ("tenant", or_none(event.tenant)),
        ("ordering_key", or_none(event.ordering_key)),
        ("content_type", Value::from(event.content_type)),
        ("data", data.unwrap_or(Value::from(()))),
        ("data_text", or_none(text)),
    ])
}

/// A JSON text as plain data; `None` when it is no JSON, or has half of a surrogate pair in it. The API takes no deeper nesting
/// than 64.
fn plain(json: &str) -> Option<Value> {
    let json = json.trim_ascii();
    match json.as_bytes().first()? {
        b'{' => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(json).ok()?;
            let members = members
                .into_iter()
                .map(|(name, value)| Some((name, plain(value.get())?)));
            Some(Value::from_pairs(members.collect::<Option<Vec<_>>>()?))
        }
        b'[' => {
            let elements: Vec<&RawValue> = serde_json::from_str(json).ok()?;
            let elements = elements.into_iter().map(|element| plain(element.get()));
            Some(Value::from_iter(elements.collect::<Option<Vec<_>>>()?))
        }
        b'"' => serde_json::from_str::<String>(json).ok().map(Value::from),
        b't' | b'f' => json.parse::<bool>().ok().map(Value::from),
        b'n' => (json == "null").then(|| Value::from(())),
        _ => number(json),
    }
}

/// A number that no type holds is its text.
fn number(json: &str) -> Option<Value> {
    if let Ok(number) = json.parse::<i64>() {
        return Some(number.into());
    }
    if let Ok(number) = json.parse::<i128>() {
        return Some(number.into());
    }
    let is_whole = json.bytes().all(|byte| byte == b'-' || byte.is_ascii_digit());
    let mantissa = json.split(['e', 'E']).next().unwrap_or_default();
    let is_zero = !mantissa.bytes().any(|byte| matches!(byte, b'1'..=b'9'));
    match json.parse::<f64>() {
        Ok(number) if number.is_finite() && !is_whole && (number != 0.0 || is_zero) => Some(number.into()),
        Ok(_) => Some(json.into()),
        Err(_) => None,
    }
}
