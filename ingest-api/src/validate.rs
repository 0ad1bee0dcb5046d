//! Event bodies: `{"type", "data", "idempotency_key"}`. The envelope is read, `data` is not: it stays the bytes
//! that the producer sent.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde::de::{MapAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;

use crate::error::{ApiError, FieldError};

/// Deepest nesting of arrays and objects in `data`.
const MAX_DEPTH: usize = 64;

/// Longest event type and idempotency key, in bytes.
const MAX_NAME_BYTES: usize = 255;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// An event as its producer described it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope<'a> {
    /// For example `order.created`.
    #[serde(borrow, rename = "type")]
    pub event_type: Cow<'a, str>,
    /// The payload: any JSON.
    #[serde(borrow)]
    pub data: &'a RawValue,
    /// Makes a repeat of the event a repeat.
    #[serde(borrow, default)]
    pub idempotency_key: Option<Cow<'a, str>>,
}

impl<'a> Envelope<'a> {
    /// Reads and checks a body.
    ///
    /// # Errors
    /// 400 when it is not JSON, 422 with every wrong field when it is not an event.
    pub fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        let envelope: Self = serde_json::from_slice(body).map_err(|error| explain(body, &error))?;
        let mut errors = Vec::new();
        if let Err(detail) = check_name(&envelope.event_type) {
            errors.push(FieldError::new("type", detail));
        } else if envelope.event_type.contains(['*', '>']) {
            errors.push(FieldError::new(
                "type",
                "must not contain `*` or `>`: they are wildcards in filters",
            ));
        }
        if nesting(envelope.data.get().as_bytes()) > MAX_DEPTH {
            errors.push(FieldError::new(
                "data",
                format!("nested deeper than {MAX_DEPTH} levels"),
            ));
        }
        if let Some(Err(detail)) = envelope.idempotency_key.as_deref().map(check_name) {
            errors.push(FieldError::new("idempotency_key", detail));
        }
        if errors.is_empty() {
            Ok(envelope)
        } else {
            Err(ApiError::Invalid(errors))
        }
    }

    /// Takes the idempotency key from its header when the body has none.
    ///
    /// # Errors
    /// When the header cannot be read, or says something else than the body.
    pub fn merge_idempotency_header(&mut self, headers: &'a HeaderMap) -> Result<(), ApiError> {
        let Some(value) = headers.get(IDEMPOTENCY_KEY) else {
            return Ok(());
        };
        let invalid = |detail: &str| ApiError::Invalid(vec![FieldError::new("Idempotency-Key", detail)]);
        let text = value.to_str().map_err(|_| invalid("must be visible ASCII"))?;
        let key =
            unquote(text).ok_or_else(|| invalid("a quote or backslash is not closed or not escaped"))?;
        check_name(&key).map_err(invalid)?;
        match &self.idempotency_key {
            Some(body) if *body != key => Err(invalid("differs from `idempotency_key` in the body")),
            Some(_) => Ok(()),
            None => {
                self.idempotency_key = Some(key);
                Ok(())
            }
        }
    }
}

/// The W3C trace context of a request, when it has a well-formed one.
pub fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    let parts: Vec<_> = text.split('-').collect();
    let lengths_are_right =
        matches!(parts[..], [v, t, s, f] if [v.len(), t.len(), s.len(), f.len()] == [2, 32, 16, 2]);
    let is_lower_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let is_zero = |part: &str| part.bytes().all(|b| b == b'0');
    (lengths_are_right
        && parts.iter().all(is_lower_hex)
        && parts[0] != "ff"
        && !is_zero(parts[1])
        && !is_zero(parts[2]))
    .then_some(text)
}

fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        Err("must not be empty")
    } else if name.len() > MAX_NAME_BYTES {
        Err("must not be longer than 255 bytes")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Err("must not contain white space or control characters")
    } else {
        Ok(())
    }
}

/// The deepest level of arrays and objects in a valid JSON text.
fn nesting(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string<'a>(bytes: &mut impl Iterator<Item = &'a u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => _ = bytes.next(),
            b'"' => return,
            _ => {}
        }
    }
}

/// Reads a structured-field string (RFC 9651, 3.3.3); the bare form without quotes is taken as it is.
fn unquote(text: &str) -> Option<Cow<'_, str>> {
    let text = text.trim();
    let Some(rest) = text.strip_prefix('"') else {
        return Some(text.into());
    };
    let inner = rest.strip_suffix('"')?;
    if !inner.contains(['\\', '"']) {
        return Some(inner.into());
    }
    let mut plain = String::with_capacity(inner.len());
    let mut chars = inner.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => plain.push(chars.next().filter(|next| matches!(next, '"' | '\\'))?),
            '"' => return None,
            c => plain.push(c),
        }
    }
    Some(plain.into())
}

/// Says what is wrong with a body that did not parse, field by field. Only wrong bodies come here, so it may
/// read them once more.
fn explain(body: &[u8], error: &serde_json::Error) -> ApiError {
    if error.classify() != Category::Data {
        return ApiError::Malformed(format!("the body is not valid JSON: {error}"));
    }
    let Ok(fields) = serde_json::from_slice::<RawFields<'_>>(body) else {
        let field = FieldError::new("body", "must be a JSON object with `type` and `data`");
        return ApiError::Invalid(vec![field]);
    };
    let mut errors = Vec::new();
    for (name, values) in &fields.0 {
        let detail = match name.as_ref() {
            _ if values.len() > 1 => Some("stands more than once"),
            "type" if !is_string(values[0]) => Some("must be a string"),
            "idempotency_key" if !is_string(values[0]) && values[0].get() != "null" => {
                Some("must be a string")
            }
            "type" | "data" | "idempotency_key" => None,
            _ => Some("is not a field of an event"),
        };
        errors.extend(detail.map(|detail| FieldError::new(name.as_ref(), detail)));
    }
    for required in ["type", "data"] {
        if !fields.0.contains_key(required) {
            errors.push(FieldError::new(required, "is missing"));
        }
    }
    if errors.is_empty() {
        errors.push(FieldError::new("body", error.to_string()));
    }
    ApiError::Invalid(errors)
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

/// An object's fields, repeated ones included.
struct RawFields<'a>(BTreeMap<Cow<'a, str>, Vec<&'a RawValue>>);

impl<'de: 'a, 'a> Deserialize<'de> for RawFields<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = RawFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
                let mut fields = BTreeMap::<_, Vec<_>>::new();
                while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                    fields.entry(Cow::Owned(name)).or_default().push(value);
                }
                Ok(RawFields(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(body: &str) -> String {
        match Envelope::parse(body.as_bytes()).unwrap_err() {
            ApiError::Invalid(errors) => {
                let lines: Vec<_> = errors
                    .iter()
                    .map(|e| format!("{}: {}", e.field, e.detail))
                    .collect();
                lines.join("; ")
            }
            ApiError::Malformed(detail) => format!("malformed: {detail}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn data_keeps_its_bytes() {
        for data in [
            r#"{"b":1e400, "a":12345678901234567890}"#,
            r#""\u0000\ud800""#,
            "null",
            "[ 1 ,2]",
        ] {
            let body = format!(r#"{{"data":{data},"type":"a"}}"#);
            assert_eq!(Envelope::parse(body.as_bytes()).unwrap().data.get(), data);
        }
    }

    #[test]
    fn a_wrong_body_is_explained_field_by_field() {
        let deep = format!(r#"{{"type":"a","data":{}{}}}"#, "[".repeat(65), "]".repeat(65));
        insta::assert_snapshot!(fields("{}"), @"type: is missing; data: is missing");
        insta::assert_snapshot!(fields(r#"{"type":5,"data":1}"#), @"type: must be a string");
        insta::assert_snapshot!(fields(r#"{"type":"","data":1}"#), @"type: must not be empty");
        insta::assert_snapshot!(fields(r#"{"type":"a b","data":1}"#), @"type: must not contain white space or control characters");
        insta::assert_snapshot!(fields(r#"{"type":"a.*","data":1}"#), @"type: must not contain `*` or `>`: they are wildcards in filters");
        insta::assert_snapshot!(fields(r#"{"type":"a\r\nb","data":1}"#), @"type: must not contain white space or control characters");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"kind":2}"#), @"kind: is not a field of an event");
        insta::assert_snapshot!(fields(r#"{"type":"a","type":"b","data":1}"#), @"type: stands more than once");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"idempotency_key":7}"#), @"idempotency_key: must be a string");
        insta::assert_snapshot!(fields(&deep), @"data: nested deeper than 64 levels");
        insta::assert_snapshot!(fields("[]"), @"body: must be a JSON object with `type` and `data`");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":"#), @"malformed: the body is not valid JSON: EOF while parsing a value at line 1 column 19");
        insta::assert_snapshot!(fields(""), @"malformed: the body is not valid JSON: EOF while parsing a value at line 1 column 0");
    }

    #[test]
    fn the_idempotency_header_is_read_quoted_and_bare() {
        let body = br#"{"type":"a","data":1}"#;
        for (header, key) in [("\"k-1\"", "k-1"), ("k-1", "k-1"), (r#""a\"b\\c""#, r#"a"b\c"#)] {
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_str(header).unwrap())]);
            let mut envelope = Envelope::parse(body).unwrap();
            envelope.merge_idempotency_header(&headers).unwrap();
            assert_eq!(envelope.idempotency_key.as_deref(), Some(key));
        }
        for wrong in ["\"open", "\"a\"b\"", r#""\n""#, "", "a b"] {
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_str(wrong).unwrap())]);
            assert!(
                Envelope::parse(body)
                    .unwrap()
                    .merge_idempotency_header(&headers)
                    .is_err(),
                "{wrong}"
            );
        }
        let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_static("one"))]);
        let mut other = Envelope::parse(br#"{"type":"a","data":1,"idempotency_key":"two"}"#).unwrap();
        assert!(other.merge_idempotency_header(&headers).is_err());
    }

    #[test]
    fn only_well_formed_trace_contexts_are_carried_on() {
        let parse = |text: &str| {
            let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(text).unwrap())]);
            traceparent(&headers).is_some()
        };
        assert!(parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!parse("00-00000000000000000000000000000000-00f067aa0ba902b7-01"));
        assert!(!parse("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"));
        assert!(!parse("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"));
        assert!(!parse("hello"));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Envelope::parse(&body);
        }

        #[test]
        fn nesting_is_what_a_real_parser_counts(depth in 0usize..60, text in ".{0,20}") {
            let text = serde_json::to_string(&text).unwrap();
            let json = format!("{}{text}{}", "[".repeat(depth), "]".repeat(depth));
            prop_assert_eq!(nesting(json.as_bytes()), depth);
        }
    }
}
