//! Penstock's own event form: `{"type", "data", "idempotency_key", "ordering_key", "tenant"}`. The envelope is read, `data` is
//! not: it stays the bytes that the producer sent.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;
use shared::domain::name::check_name;
use utoipa::ToSchema;

use crate::domain::field_errors::FieldErrors;
use crate::domain::json::HALF_A_PAIR;
use crate::event::error::EventError;
use crate::event::json::{RawFields, check_depth, without_mark};
use crate::event::{Identity, NewEvent, check_event_type};

/// An event as its producer described it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    event_type: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(borrow, default)]
    idempotency_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    ordering_key: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    tenant: Option<Cow<'a, str>>,
}

/// Penstock's own form of an event.
#[derive(Debug, ToSchema)]
#[expect(dead_code, reason = "it documents what is read as an `Envelope`")]
pub(crate) struct EventRequest {
    /// For example `order.created`: 1 to 255 bytes without white space, control characters, `*` or `>`.
    #[schema(rename = "type", min_length = 1, max_length = 255, pattern = r"^[^\s*>]+$")]
    event_type: String,
    /// The payload: any JSON, up to 64 levels deep. It is delivered byte for byte.
    data: serde_json::Value,
    /// An event that repeats the key within 24 hours gets the id of the first one and is not delivered again.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    idempotency_key: Option<String>,
    /// Ordered endpoints get the events of one key one after another, in the order of their acceptance.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    ordering_key: Option<String>,
    /// The organisation's customer whose event it is: it goes to the endpoints of this tenant, and to those of all tenants.
    /// With a key that is bound to a tenant, that one unless given.
    #[schema(
        required = false,
        nullable,
        min_length = 1,
        max_length = 255,
        pattern = r"^\S+$"
    )]
    tenant: Option<String>,
}

/// Reads and checks an event.
///
/// # Errors
/// When it is not JSON, or with every wrong field.
pub fn parse(body: &[u8]) -> Result<NewEvent<'_>, EventError> {
    let body = without_mark(body);
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| explain(body, error))?;
    let mut errors = FieldErrors::default();
    errors.check("type", check_event_type(&envelope.event_type));
    errors.check("data", check_depth(envelope.data.get()));
    let names = [
        ("idempotency_key", &envelope.idempotency_key),
        ("ordering_key", &envelope.ordering_key),
        ("tenant", &envelope.tenant),
    ];
    for (field, name) in names {
        if let Some(name) = name {
            errors.check(field, check_name(name));
        }
    }
    errors.finish()?;
    Ok(NewEvent {
        identity: envelope.idempotency_key.map_or(Identity::Unique, Identity::Key),
        ordering_key: envelope.ordering_key,
        tenant: envelope.tenant,
        ..NewEvent::of_json(envelope.event_type, envelope.data.get().as_bytes())
    })
}

/// Says what is wrong with a body, field by field. It reads the body again, but only bodies that failed come here.
fn explain(body: &[u8], error: serde_json::Error) -> EventError {
    if let Err(invalid) = serde_json::from_slice::<&RawValue>(body) {
        // A wrong field may stand before the place that is not JSON; then `error` is about that field.
        return EventError::NotJson(if error.is_data() { invalid } else { error });
    }
    let fields = match RawFields::read(body, "a JSON object with `type` and `data`") {
        Ok(fields) => fields,
        Err(error) => return error,
    };
    let mut errors = FieldErrors::default();
    for name in fields.0.keys() {
        let outcome = match name.as_ref() {
            "type" => fields.string(name).and_then(is_text),
            "data" => fields.value(name),
            "idempotency_key" | "ordering_key" | "tenant" => fields.nullable_string(name).and_then(is_text),
            _ => fields.value(name).and(Err("is not a field of an event")),
        };
        errors.check(name, outcome);
    }
    for required in ["type", "data"] {
        if !fields.0.contains_key(required) {
            errors.push(required, "is missing");
        }
    }
    match errors.finish() {
        Err(wrong) => wrong.into(),
        Ok(()) => EventError::invalid("body", error.to_string()),
    }
}

fn is_text(value: Option<&RawValue>) -> Result<Option<&RawValue>, &'static str> {
    match value.map(|value| serde_json::from_str::<Cow<'_, str>>(value.get())) {
        Some(Err(_)) => Err(HALF_A_PAIR),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::http::error::ApiError;

    fn fields(body: &str) -> String {
        ApiError::from(parse(body.as_bytes()).unwrap_err()).in_words()
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
            assert_eq!(&*parse(body.as_bytes()).unwrap().data, data.as_bytes());
        }
    }

    #[test]
    fn a_wrong_body_is_explained_field_by_field() {
        let deep = format!(r#"{{"type":"a","data":{}{}}}"#, "[".repeat(65), "]".repeat(65));
        insta::assert_snapshot!(fields("{}"), @"422 type: is missing; data: is missing");
        insta::assert_snapshot!(fields(r#"{"type":5,"data":1}"#), @"422 type: must be a string");
        insta::assert_snapshot!(fields(r#"{"type":"","data":1}"#), @"422 type: must not be empty");
        insta::assert_snapshot!(fields(r#"{"type":"a b","data":1}"#), @"422 type: must not contain white space or control characters");
        insta::assert_snapshot!(fields(r#"{"type":"a.*","data":1}"#), @"422 type: must not contain `*` or `>`: they are wildcards in filters");
        insta::assert_snapshot!(fields(r#"{"type":"a\r\nb","data":1}"#), @"422 type: must not contain white space or control characters");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"kind":2}"#), @"422 kind: is not a field of an event");
        insta::assert_snapshot!(fields(r#"{"type":"a","type":"b","data":1}"#), @"422 type: stands more than once");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"idempotency_key":7}"#), @"422 idempotency_key: must be a string");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"ordering_key":[]}"#), @"422 ordering_key: must be a string");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"ordering_key":""}"#), @"422 ordering_key: must not be empty");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"tenant":7}"#), @"422 tenant: must be a string");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"tenant":"a b"}"#), @"422 tenant: must not contain white space or control characters");
        insta::assert_snapshot!(fields(r#"{"type":"a\ud800","data":1}"#), @"422 type: holds half of a surrogate pair");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":1,"ordering_key":"\udc00","k\ud83d":1}"#), @"422 k���: is not a field of an event; ordering_key: holds half of a surrogate pair");
        insta::assert_snapshot!(fields(r#"{"type":"delivery.dead","data":1}"#), @"422 type: is reserved for Penstock's own events");
        insta::assert_snapshot!(fields(&deep), @"422 data: nested deeper than 64 levels");
        insta::assert_snapshot!(fields("[]"), @"422 body: must be a JSON object with `type` and `data`");
        insta::assert_snapshot!(fields(r#"{"type":"a","data":"#), @"400 the body is not valid JSON: EOF while parsing a value at line 1 column 19");
        insta::assert_snapshot!(fields(r#"{"type":5,"data":"#), @"400 the body is not valid JSON: EOF while parsing a value at line 1 column 17");
        insta::assert_snapshot!(fields(""), @"400 the body is not valid JSON: EOF while parsing a value at line 1 column 0");
    }

    #[test]
    fn a_byte_order_mark_is_ignored_in_front_and_kept_in_the_data() {
        let body = "\u{feff}{\"type\":\"a\",\"data\":\"\u{feff}\"}";
        assert_eq!(&*parse(body.as_bytes()).unwrap().data, "\"\u{feff}\"".as_bytes());
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body);
        }
    }
}
