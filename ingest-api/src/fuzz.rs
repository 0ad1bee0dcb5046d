//! Bodies and headers that are nearly right.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use fuzz::{bytes, damaged, fuzz, json};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::{TestCaseError, TestCaseResult};
use serde_json::value::RawValue;
use shared::domain::event::is_json;

use crate::event::batch::{self, BatchForm};
use crate::event::error::EventError;
use crate::event::{Identity, NewEvent};
use crate::event::{cloudevents, envelope};
use crate::http::error::ApiError;
use crate::http::request::event_headers::read_binary_cloudevent;

/// An object's text, of members that are text already.
fn object(members: &[String]) -> String {
    format!("{{{}}}", members.join(","))
}

fn envelope() -> impl Strategy<Value = String> {
    let data = json().prop_map(|data| format!("\"data\": {data}"));
    let event_type = "\"type\":\"[a-z.*é]{0,9}\"";
    let key = "\"idempotency_key\":(null|\"([a-z ]|\\\\u0001){0,5}\")";
    let other = ("[a-z]{1,4}", json()).prop_map(|(name, value)| format!("\"{name}\":{value}"));
    (
        data,
        event_type,
        vec(prop_oneof![key.boxed(), other.boxed()], 0..2),
    )
        .prop_map(|(data, event_type, mut members)| {
            members.splice(0..0, [event_type, data]);
            object(&members)
        })
}

const CLOUDEVENT: [&str; 4] = [
    r#""specversion":"1.0""#,
    r#""id":"1""#,
    r#""source":"/s""#,
    r#""type":"t""#,
];

/// Names of members that may stand beside the required ones.
const MEMBERS: &[&str] = &[
    "data",
    "data_base64",
    "datacontenttype",
    "time",
    "subject",
    "dataschema",
    "id",
    "ext1",
    "EXT",
];

fn cloudevent() -> impl Strategy<Value = String> {
    let text = "\"(text/plain|application/json|a/b\\+json|2018-04-05T17:31:00Z|WzFd|e30=|[a-zé]{0,9})\"";
    let member = (select(MEMBERS), prop_oneof![json().boxed(), text.boxed()])
        .prop_map(|(name, value)| format!("\"{name}\":{value}"));
    vec(member, 0..4).prop_map(|members| {
        let required = CLOUDEVENT.map(str::to_owned);
        object(&[&required[..], &members].concat())
    })
}

fn is_name(text: &str) -> bool {
    let is_plain = |c: char| !c.is_control() && !c.is_whitespace();
    (1..=255).contains(&text.len()) && text.chars().all(is_plain)
}

/// What holds for every event that is accepted, in whichever form it came.
fn is_sound(event: &NewEvent<'_>) -> TestCaseResult {
    prop_assert!(is_name(&event.event_type) && !event.event_type.contains(['*', '>']));
    if is_json(&event.content_type) {
        // It stands in the webhook's body as it is.
        prop_assert!(serde_json::from_slice::<&RawValue>(&event.data).is_ok());
    }
    match &event.identity {
        Identity::Unique => {}
        Identity::Key(key) => prop_assert!(is_name(key)),
        Identity::CloudEvent { source, id } => prop_assert!(!source.is_empty() && !id.is_empty()),
    }
    if let Some(attributes) = &event.cloudevent {
        let attributes: serde_json::Map<_, _> = serde_json::from_str(attributes).unwrap();
        for required in ["id", "source", "specversion", "type"] {
            prop_assert!(attributes[required].is_string());
        }
    }
    Ok(())
}

/// What holds for every refusal: it is the producer's fault, and says why.
fn is_explained(error: ApiError) -> TestCaseResult {
    prop_assert!(error.status().is_client_error());
    match error {
        ApiError::Invalid(fields) => prop_assert!(!fields.is_empty()),
        ApiError::Malformed(detail) => prop_assert!(!detail.is_empty()),
        ApiError::TooManyEvents { .. } | ApiError::TooLarge { .. } => {}
        other => return Err(TestCaseError::fail(format!("{other:?}"))),
    }
    Ok(())
}

fn is_either(outcome: Result<NewEvent<'_>, EventError>) -> TestCaseResult {
    match outcome {
        Ok(event) => is_sound(&event),
        Err(error) => is_explained(error.into()),
    }
}

#[test]
fn an_envelopes_data_keeps_its_bytes_whatever_they_are() {
    fuzz(json(), |data| {
        let body = format!("{{\"data\":{data},\"type\":\"a\"}}");
        let event = envelope::parse(body.as_bytes()).unwrap();
        prop_assert_eq!(&*event.data, data.as_bytes());
        Ok(())
    });
}

#[test]
fn a_damaged_envelope_is_an_event_or_is_explained() {
    fuzz(damaged(envelope().prop_map(String::into_bytes)), |body| {
        is_either(envelope::parse(&body))
    });
}

#[test]
fn a_damaged_structured_cloudevent_is_an_event_or_is_explained() {
    fuzz(damaged(cloudevent().prop_map(String::into_bytes)), |body| {
        is_either(cloudevents::parse_structured(&body))
    });
}

#[test]
fn a_damaged_binary_cloudevent_is_an_event_or_is_explained() {
    let name = prop_oneof![
        select(
            &[
                "content-type",
                "ce-id",
                "ce-type",
                "ce-source",
                "ce-time",
                "ce-data",
                "host"
            ][..]
        )
        .prop_map(str::to_owned),
        "ce-[a-z0-9-]{0,6}",
    ];
    let value = prop_oneof![
        "(application/json|text/plain|2018-04-05T17:31:00Z|\"[a-z%\\\\]{0,5}\"?|(%[0-9a-fA-F+]{1,2}|[a-z]){0,6})"
            .prop_map(String::into_bytes)
            .boxed(),
        bytes().boxed(),
    ];
    let body = prop_oneof![json().prop_map(String::into_bytes).boxed(), bytes().boxed()];
    fuzz((vec((name, value), 0..4), body), |(pairs, body)| {
        let required = [
            ("ce-specversion", "1.0"),
            ("ce-id", "1"),
            ("ce-source", "/s"),
            ("ce-type", "t"),
        ];
        let mut headers: HeaderMap = required
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .into_iter()
            .collect();
        for (name, value) in pairs {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), value);
            }
        }
        is_either(read_binary_cloudevent(&headers, &body))
    });
}

#[test]
fn one_damaged_item_of_a_batch_spoils_no_other() {
    let items = prop_oneof![
        (vec(envelope(), 0..4), Just(BatchForm::Array)),
        (vec(cloudevent(), 0..4), Just(BatchForm::CloudEvents)),
        (
            vec(damaged(envelope().prop_map(String::into_bytes)), 0..4),
            Just(())
        )
            .prop_map(|(lines, ())| (
                lines.iter().map(|line| one_line(line)).collect(),
                BatchForm::Lines
            )),
    ];
    fuzz(items, |(items, form)| {
        let body = match form {
            BatchForm::Lines => items.join("\n"),
            BatchForm::Array | BatchForm::CloudEvents => format!("[{}]", items.join(",")),
        };
        let expected = items.iter().filter(|item| !item.trim_ascii().is_empty());
        match batch::parse(body.as_bytes(), form) {
            Ok(outcomes) => {
                prop_assert_eq!(outcomes.len(), expected.count());
                outcomes.into_iter().try_for_each(is_either)
            }
            Err(error) => {
                prop_assert_eq!(expected.count(), 0, "{:?}", error);
                is_explained(error.into())
            }
        }
    });
}

fn one_line(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).replace('\n', " ")
}

#[test]
fn a_damaged_batch_is_a_batch_or_is_explained() {
    let batch = vec(cloudevent(), 0..4).prop_map(|items| format!("[{}]", items.join(",")).into_bytes());
    let forms = select(&[BatchForm::Array, BatchForm::Lines, BatchForm::CloudEvents][..]);
    fuzz((damaged(batch), forms), |(body, form)| {
        match batch::parse(&body, form) {
            Ok(outcomes) => outcomes.into_iter().try_for_each(is_either),
            Err(error) => is_explained(error.into()),
        }
    });
}
