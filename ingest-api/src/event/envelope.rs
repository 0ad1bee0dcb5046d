//! Penstock's own event form: `{"type", "data", "idempotency_key", "ordering_key"}`. The envelope is read, `data` is not: it stays
//! the bytes that the producer sent.

use std::borrow::Cow;

use axum::http::{HeaderMap, HeaderName};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::event::json::{HALF_A_PAIR, RawFields, check_depth, without_mark};
use crate::event::{Identity, NewEvent, check_event_type, check_word};
use crate::http::error::{ApiError, FieldErrors};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header as errors name it.
const IDEMPOTENCY_HEADER: &str = "Idempotency-Key";

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
}

/// Reads and checks an event.
///
/// # Errors
/// 400 when it is not JSON, 422 with every wrong field when it is not an event.
pub fn parse(body: &[u8]) -> Result<NewEvent<'_>, ApiError> {
    let body = without_mark(body);
    let envelope: Envelope<'_> = serde_json::from_slice(body).map_err(|error| explain(body, &error))?;
    let mut errors = FieldErrors::default();
    errors.check("type", check_event_type(&envelope.event_type));
    errors.check("data", check_depth(envelope.data.get()));
    if let Some(key) = &envelope.idempotency_key {
        errors.check("idempotency_key", check_word(key));
    }
    if let Some(key) = &envelope.ordering_key {
        errors.check("ordering_key", check_word(key));
    }
    errors.finish()?;
    Ok(NewEvent {
        event_type: envelope.event_type,
        content_type: shared::domain::event::JSON.into(),
        data: envelope.data.get().as_bytes().into(),
        identity: envelope.idempotency_key.map_or(Identity::Unique, Identity::Key),
        cloudevent: None,
        ordering_key: envelope.ordering_key,
        only_to: None,
    })
}

/// Takes the idempotency key from its header when the body has none in its field, which has this name.
///
/// # Errors
/// When the header cannot be read, or says something else than the body.
pub fn merge_idempotency_header<'a>(
    event: &mut NewEvent<'a>,
    headers: &'a HeaderMap,
    field: &str,
) -> Result<(), ApiError> {
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(());
    };
    let invalid = |detail: &str| ApiError::invalid(IDEMPOTENCY_HEADER, detail);
    if values.next().is_some() {
        return Err(invalid("stands more than once"));
    }
    let text = value.to_str().map_err(|_| invalid("must be visible ASCII"))?;
    // RFC 9651, 3.3.3.
    let key = unquote(text, |c| matches!(c, '"' | '\\'))
        .ok_or_else(|| invalid("a quote or backslash is not closed or not escaped"))?;
    check_word(&key).map_err(invalid)?;
    match &event.identity {
        Identity::Key(body) if *body != key => Err(invalid(&format!("differs from `{field}` in the body"))),
        Identity::Unique => {
            event.identity = Identity::Key(key);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Refuses an idempotency key in a header, where it would name many events, or one that has a name of its own.
///
/// # Errors
/// 422 with where the key belongs.
pub fn refuse_idempotency_header(headers: &HeaderMap, instead: &str) -> Result<(), ApiError> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(ApiError::invalid(IDEMPOTENCY_HEADER, instead));
    }
    Ok(())
}

/// Reads a quoted string in which a backslash may stand before what `escaped` allows; text without quotes is taken as
/// it is. Nothing when a quote or backslash is not closed or not escaped.
pub fn unquote(text: &str, escaped: fn(char) -> bool) -> Option<Cow<'_, str>> {
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
            '\\' => plain.push(chars.next().filter(|next| escaped(*next))?),
            '"' => return None,
            c => plain.push(c),
        }
    }
    Some(plain.into())
}

/// Says what is wrong with a body that did not parse, field by field. Only wrong bodies come here, so it may
/// read them once more.
fn explain(body: &[u8], error: &serde_json::Error) -> ApiError {
    if let Err(invalid) = serde_json::from_slice::<&RawValue>(body) {
        // What the reader of events met first, unless that is a wrong field before the place that is no JSON.
        return ApiError::not_json(if error.is_data() { &invalid } else { error });
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
            "idempotency_key" | "ordering_key" => fields.nullable_string(name).and_then(is_text),
            _ => fields.value(name).and(Err("is not a field of an event")),
        };
        errors.check(name, outcome);
    }
    for required in ["type", "data"] {
        if !fields.0.contains_key(required) {
            errors.push(required, "is missing");
        }
    }
    let wrong = errors.finish().err();
    wrong.unwrap_or_else(|| ApiError::invalid("body", error.to_string()))
}

fn is_text(value: Option<&RawValue>) -> Result<Option<&RawValue>, &'static str> {
    match value.map(|value| serde_json::from_str::<Cow<'_, str>>(value.get())) {
        Some(Err(_)) => Err(HALF_A_PAIR),
        _ => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    fn fields(body: &str) -> String {
        parse(body.as_bytes()).unwrap_err().in_words()
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

    #[test]
    fn the_idempotency_header_is_read_quoted_and_bare() {
        let body = br#"{"type":"a","data":1}"#;
        let merged = |body: &'static [u8], header: &str| {
            let headers = HeaderMap::from_iter([(IDEMPOTENCY_KEY, HeaderValue::from_str(header).unwrap())]);
            let mut event = parse(body).unwrap();
            merge_idempotency_header(&mut event, &headers, "idempotency_key").map(|()| match event.identity {
                Identity::Key(key) => key.into_owned(),
                other => panic!("{other:?}"),
            })
        };
        for (header, key) in [("\"k-1\"", "k-1"), ("k-1", "k-1"), (r#""a\"b\\c""#, r#"a"b\c"#)] {
            assert_eq!(merged(body, header).unwrap(), key);
        }
        for wrong in ["\"open", "\"a\"b\"", r#""\n""#, "", "a b"] {
            assert!(merged(body, wrong).is_err(), "{wrong}");
        }
        let mut headers = HeaderMap::new();
        for key in ["k-1", "k-1"] {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_static(key));
        }
        let mut event = parse(body).unwrap();
        assert!(merge_idempotency_header(&mut event, &headers, "idempotency_key").is_err());
        let with_key = br#"{"type":"a","data":1,"idempotency_key":"two"}"#;
        assert!(merged(with_key, "one").is_err());
        assert_eq!(merged(with_key, "two").unwrap(), "two");
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&body);
        }
    }
}
