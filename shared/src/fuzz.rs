//! What comes from outside, or from a stream, and is nearly right.

use std::net::{IpAddr, Ipv4Addr};

use fuzz::{bytes, damaged, fuzz, json};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use serde_json::Value;
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use crate::domain::clock::UnixMicros;
use crate::domain::event::Event;
use crate::domain::filter::PayloadFilter;
use crate::egress::{EgressConfig, Refused};
use crate::wire::frame::{self, EncodedEvent};

/// A type, an idempotency key, a payload, and the time of acceptance.
type Parts = (String, Option<String>, Vec<u8>, i64);

fn parts() -> impl Strategy<Value = Parts> {
    (".{0,40}", option::of(".{0,40}"), bytes(), any::<i64>())
}

fn event((event_type, key, data, micros): &Parts) -> Event<'_> {
    Event {
        id: Uuid::from_u128(7).into(),
        org_id: Uuid::from_u128(8).into(),
        event_type,
        accepted_at: UnixMicros::new(*micros),
        idempotency_key: key.as_deref(),
        data,
        ..Event::sample()
    }
}

fn frame_of(parts: &[Parts]) -> Vec<u8> {
    let events: Vec<_> = parts
        .iter()
        .map(|parts| EncodedEvent::new(&event(parts)))
        .collect();
    frame::encode(events.iter()).to_vec()
}

#[test]
fn what_comes_out_of_a_damaged_frame_is_whole_events_or_errors() {
    let frames = damaged(vec(parts(), 0..4).prop_map(|parts| frame_of(&parts)));
    fuzz(
        prop_oneof![4 => frames.boxed(), 1 => bytes().boxed()],
        |payload| {
            let decoded = frame::decode(Some(frame::VERSION), &payload).unwrap_or_default();
            for event in decoded.into_iter().flatten() {
                let again = frame::encode([EncodedEvent::new(&event)].iter());
                let events = frame::decode(Some(frame::VERSION), &again).unwrap();
                prop_assert_eq!(events[0].as_ref().ok(), Some(&event));
            }
            Ok(())
        },
    );
}

/// The ways of writing an IPv4 address that resolvers and browsers know, and the IPv6 addresses that hold it.
fn spellings(address: Ipv4Addr) -> [String; 9] {
    let ([a, b, ..], bits, text) = (address.octets(), address.to_bits(), address.to_string());
    let tail = bits & 0xffff;
    [
        text.clone(),
        format!("{bits}"),
        format!("{bits:#x}"),
        format!("{bits:#o}").replace("0o", "0"),
        format!("0{a:o}.{b:#x}.{tail}"),
        format!("{text}."),
        format!("%{:02x}{}", text.as_bytes()[0], &text[1..]),
        format!("[::ffff:{address}]"),
        format!("[::ffff:{:x}:{tail:x}]", bits >> 16),
    ]
}

#[test]
fn an_address_is_judged_alike_in_every_spelling() {
    fuzz((any::<u32>(), any::<u8>(), 1_u16..), |(bits, pick, port)| {
        // Half of them in a network that is refused.
        let special = [0x7f00_0000, 0x0a00_0000, 0xa9fe_0000, 0xc0a8_0000].get(usize::from(pick % 8));
        let address = Ipv4Addr::from_bits(special.map_or(bits, |network| network | bits & 0xffff));
        let guard = EgressConfig::default();
        let verdict = guard.check_address(IpAddr::V4(address));
        let public = !(address.is_loopback() || address.is_private() || address.is_link_local());
        prop_assert!(public || verdict.is_err(), "{} passes", address);
        for host in spellings(address) {
            let url = Url::parse(&format!("http://{host}:{port}/hook")).unwrap();
            prop_assert_eq!(guard.check_url(&url), verdict.clone(), "{}", url);
        }
        Ok(())
    });
}

#[test]
fn a_url_that_passes_is_plain_and_goes_to_a_name_or_a_public_address() {
    let host = prop_oneof![
        "[a-z-]{1,8}(\\.[a-z]{2,3})?\\.?",
        "[0-9]{1,3}(\\.[0-9]{1,3}){0,3}",
        "0x[0-9a-f]{1,8}",
        "\\[[0-9a-f:]{2,12}(:127\\.0\\.0\\.1)?\\]",
        "(%[0-9a-f]{2}|[a-z0-9.]){0,6}",
    ];
    let start = prop_oneof![4 => "https?://", 1 => "[a-z]{0,4}:?[/\\\\]{0,3}"];
    let user = prop_oneof![4 => "", 1 => "[a-z%]{0,3}(:[a-z]{0,3})?@"];
    let nearly = (start, user, host, "(:[0-9]{0,6})?", "([/?#\\\\].{0,9})?")
        .prop_map(|(start, user, host, port, path)| start + &user + &host + &port + &path);
    fuzz(prop_oneof![4 => nearly.boxed(), 1 => ".{0,60}".boxed()], |text| {
        let Ok(url) = Url::parse(&text) else { return Ok(()) };
        let guard = EgressConfig::default();
        let verdict = guard.check_url(&url);
        // Written out and read again, it is the same URL to the HTTP client.
        prop_assert_eq!(
            guard.check_url(&Url::parse(url.as_str()).unwrap()),
            verdict.clone()
        );
        if verdict.is_err() {
            return Ok(());
        }
        prop_assert!(url.has_host() && url.username().is_empty() && url.password().is_none());
        prop_assert!(["http", "https"].contains(&url.scheme()));
        let host = url.host_str().unwrap().trim_matches(['[', ']']);
        if let Ok(address) = host.parse() {
            prop_assert_ne!(guard.check_address(address), Err(Refused::Address(address)));
        }
        Ok(())
    });
}

fn filter() -> impl Strategy<Value = Vec<u8>> {
    let scalar = prop_oneof![
        "null",
        "true",
        "false",
        "-?[1-9][0-9]{0,5}(\\.5)?",
        "\"[a-c]{0,2}\""
    ]
    .boxed();
    let list = vec(scalar.clone(), 0..3).prop_map(|values| format!("[{}]", values.join(",")));
    let operand = prop_oneof![6 => scalar, 1 => list, 1 => json()].boxed();
    let operation = (
        "eq|ne|in|exists|gt|gte|lt|lte|prefix|suffix|contains",
        operand.clone(),
        any::<bool>(),
    )
        .prop_map(|(operator, operand, folds)| {
            let folds = if folds { ",\"ignore_case\":true" } else { "" };
            format!("{{\"{operator}\":{operand}{folds}}}")
        });
    let clause = ("(/[a-c0-2]){0,3}|type|tenant", prop_oneof![operand, operation])
        .prop_map(|(pointer, condition)| format!("\"{pointer}\":{condition}"));
    let filter = vec(clause, 0..3).prop_map(|clauses| format!("{{{}}}", clauses.join(",")));
    let nested = filter.prop_recursive(3, 12, 3, |filter| {
        prop_oneof![
            ("any|all", vec(filter.clone(), 0..3))
                .prop_map(|(name, filters)| format!("{{\"{name}\":[{}]}}", filters.join(","))),
            filter.prop_map(|filter| format!("{{\"not\":{filter}}}")),
        ]
    });
    nested.prop_map(String::into_bytes)
}

#[test]
fn every_filter_that_is_read_can_be_asked_about_every_payload() {
    let payload = prop_oneof![json().prop_map(String::into_bytes).boxed(), bytes().boxed()];
    fuzz((damaged(filter()), damaged(payload)), |(filter, data)| {
        let text = String::from_utf8_lossy(&filter);
        let Ok(filter) = PayloadFilter::parse(&text) else {
            return Ok(());
        };
        let matched = filter.matches(&data);
        let is_json = serde_json::from_slice::<&RawValue>(&data).is_ok();
        prop_assert!(is_json || !matched || !filter.asks_data());
        Ok(())
    });
}

#[test]
fn a_filter_takes_for_json_what_is_json() {
    let payload = prop_oneof![json().prop_map(String::into_bytes).boxed(), bytes().boxed()];
    let filter = PayloadFilter::parse(r#"{"":{"exists":true}}"#).unwrap();
    fuzz(damaged(payload), |data| {
        let is_json = serde_json::from_slice::<&RawValue>(&data).is_ok();
        prop_assert_eq!(filter.matches(&data), is_json);
        Ok(())
    });
}

#[test]
fn a_filter_finds_what_a_parser_finds() {
    fuzz(
        (json(), "(/([a-c. é]|~[01]|[0-2]){0,2}){0,3}"),
        |(data, pointer)| {
            // A parser into a tree knows neither all names nor all numbers.
            let Ok(tree) = serde_json::from_str::<Value>(&data) else {
                return Ok(());
            };
            let found = tree.pointer(&pointer);
            let asked = |condition: Value| {
                let filter = serde_json::json!({ &pointer: condition }).to_string();
                PayloadFilter::parse(&filter).unwrap().matches(data.as_bytes())
            };
            prop_assert_eq!(asked(serde_json::json!({"exists": true})), found.is_some());
            prop_assert_eq!(asked(serde_json::json!({"exists": false})), found.is_none());
            if let Some(value @ (Value::String(_) | Value::Bool(_) | Value::Null)) = found {
                let is = asked(serde_json::json!({"eq": value, "in": [value, 1]}));
                let differs = asked(serde_json::json!({"ne": value}));
                prop_assert!(is && !differs);
            }
            Ok(())
        },
    );
}

#[test]
fn a_string_equals_itself_and_no_other_in_a_filter() {
    fuzz((".{0,9}", ".{0,9}"), |(one, other)| {
        let filter = serde_json::json!({ "/a": one }).to_string();
        let filter = PayloadFilter::parse(&filter).unwrap();
        let data = |value: &str| serde_json::json!({ "a": value }).to_string();
        prop_assert!(filter.matches(data(&one).as_bytes()));
        prop_assert_eq!(filter.matches(data(&other).as_bytes()), one == other);
        Ok(())
    });
}
