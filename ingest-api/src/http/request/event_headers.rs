//! The attributes of an event that its request's headers carry.

use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderMap, HeaderName};
use shared::domain::name::check_name;
use shared::traces::parent::TraceParent;

use crate::event::cloudevents::{self, Header};
use crate::event::error::EventError;
use crate::event::quoted::unquote;
use crate::event::{Identity, NewEvent};
use crate::http::error::ApiError;

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The header as errors name it.
const IDEMPOTENCY_HEADER: &str = "Idempotency-Key";

const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Whether a request is a CloudEvent in binary mode, provided that its content type is none of CloudEvents' own.
pub(crate) fn is_binary_cloudevent(headers: &HeaderMap) -> bool {
    headers.contains_key(CE_SPECVERSION)
}

/// Reads a CloudEvent in binary mode.
///
/// # Errors
/// With every wrong attribute.
pub(crate) fn read_binary_cloudevent<'a>(
    headers: &HeaderMap,
    body: &'a [u8],
) -> Result<NewEvent<'a>, EventError> {
    let each = headers.keys().filter_map(|name| {
        let mut values = headers.get_all(name).iter();
        Some(Header {
            name: name.as_str(),
            value: values.next()?.as_bytes(),
            repeated: values.next().is_some(),
        })
    });
    let content_type = headers.get(CONTENT_TYPE);
    let content_type = content_type.map(|value| value.to_str().unwrap_or_default());
    cloudevents::parse_binary(each, content_type, body)
}

/// The W3C trace context of a request, when it has a well-formed one.
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(TRACEPARENT)?.to_str().ok()?;
    TraceParent::parse(text).map(|_| text)
}

/// Takes the idempotency key from its header when the body has none. `field` is the name of the body's field.
///
/// # Errors
/// When the header cannot be read, or says something else than the body.
pub(crate) fn merge_idempotency_header<'a>(
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
    check_name(&key).map_err(invalid)?;
    match &event.identity {
        Identity::Key(body) if *body != key => Err(invalid(&format!("differs from `{field}` in the body"))),
        Identity::Unique => {
            event.identity = Identity::Key(key);
            Ok(())
        }
        Identity::Key(_) | Identity::CloudEvent { .. } => Ok(()),
    }
}

/// Refuses an idempotency key in a header, when the request has many events or one with a key of its own.
///
/// # Errors
/// 422 with where the key belongs.
pub(crate) fn refuse_idempotency_header(headers: &HeaderMap, instead: &str) -> Result<(), ApiError> {
    if headers.contains_key(IDEMPOTENCY_KEY) {
        return Err(ApiError::invalid(IDEMPOTENCY_HEADER, instead));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;
    use crate::event::envelope::parse;

    #[test]
    fn only_well_formed_trace_contexts_are_carried_on() {
        let parse = |text: &str| {
            let headers = HeaderMap::from_iter([(TRACEPARENT, HeaderValue::from_str(text).unwrap())]);
            traceparent(&headers).map(str::to_owned)
        };
        let well_formed = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(parse(well_formed).as_deref(), Some(well_formed));
        assert_eq!(parse("hello"), None);
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
}
