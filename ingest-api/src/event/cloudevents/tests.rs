use axum::http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

use super::*;
use crate::event::Identity;
use crate::http::error::ApiError;
use crate::http::request::event_headers::read_binary_cloudevent as parse_binary;

const MINIMAL: &str = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t"}"#;

fn with(member: &str) -> String {
    MINIMAL.replace('}', &format!(",{member}}}"))
}

fn errors(outcome: Result<NewEvent<'_>, EventError>) -> String {
    ApiError::from(outcome.unwrap_err()).in_words()
}

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let parse = |(name, value): &(&str, &str)| {
        (
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        )
    };
    let minimal = [
        ("ce-specversion", "1.0"),
        ("ce-id", "1"),
        ("ce-source", "/s"),
        ("ce-type", "t"),
    ];
    minimal.iter().chain(pairs).map(parse).collect()
}

#[test]
fn structured_events_keep_their_attributes_and_their_datas_bytes() {
    let body =
        with(r#""data":{"a": 1e400},"myext":7,"flag":true,"subject":"ü","time":"2018-04-05T17:31:00Z""#);
    let event = parse_structured(body.as_bytes()).unwrap();
    assert_eq!(&*event.data, br#"{"a": 1e400}"#);
    assert_eq!(event.content_type, JSON);
    assert_eq!(
        event.identity,
        Identity::CloudEvent {
            source: "/s".into(),
            id: "1".into()
        }
    );
    insta::assert_snapshot!(
        event.cloudevent.unwrap(),
        @r#"{"flag":true,"id":"1","myext":7,"source":"/s","specversion":"1.0","subject":"ü","time":"2018-04-05T17:31:00Z","type":"t"}"#
    );
}

#[test]
fn the_partition_key_is_the_ordering_key() {
    let body = with(r#""partitionkey":"k-1""#);
    let event = parse_structured(body.as_bytes()).unwrap();
    assert_eq!(event.ordering_key.as_deref(), Some("k-1"));
    let event = parse_binary(&headers(&[("ce-partitionkey", "k-2")]), b"").unwrap();
    assert_eq!(event.ordering_key.as_deref(), Some("k-2"));
    let explain = |member: &str| errors(parse_structured(with(member).as_bytes()));
    insta::assert_snapshot!(explain(r#""partitionkey":7"#), @"422 partitionkey: must be a string");
    insta::assert_snapshot!(explain(r#""partitionkey":"a b""#), @"422 partitionkey: must not contain white space or control characters");
}

#[test]
fn payloads_are_json_text_or_bytes_as_the_event_says() {
    let payload = |member: &str| {
        let body = with(member);
        let event = parse_structured(body.as_bytes()).unwrap();
        (
            event.content_type.into_owned(),
            String::from_utf8(event.data.into_owned()).unwrap(),
        )
    };
    let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
    assert_eq!(payload(r#""subject":"x""#), pair(JSON, "null"));
    assert_eq!(
        payload(r#""datacontenttype":"text/xml","data":"<a/>""#),
        pair("text/xml", "<a/>")
    );
    assert_eq!(
        payload(r#""datacontenttype":"text/plain","data_base64":"aGk=""#),
        pair("text/plain", "hi")
    );
    assert_eq!(payload(r#""data_base64":"WzFd""#), pair(JSON, "[1]"));
}

#[test]
fn wrong_structured_events_are_explained() {
    let explain = |body: &str| errors(parse_structured(body.as_bytes()));
    insta::assert_snapshot!(explain("{}"), @"422 id: is missing; source: is missing; specversion: is missing; type: is missing");
    insta::assert_snapshot!(explain(&MINIMAL.replace("1.0", "0.3")), @r#"422 specversion: must be "1.0""#);
    insta::assert_snapshot!(explain(&with(r#""time":"noon""#)), @"422 time: must be a time as in RFC 3339");
    insta::assert_snapshot!(explain(&with(r#""My-Ext":"x""#)), @"422 My-Ext: attribute names are 1 to 64 lower-case letters and digits");
    insta::assert_snapshot!(explain(&with(r#""ext":{}"#)), @"422 ext: must be a string, a boolean or a 32-bit integer");
    insta::assert_snapshot!(explain(&with(r#""ext":"a\u0000b""#)), @"422 ext: must not contain control characters");
    insta::assert_snapshot!(explain(&with(r#""id":"2""#)), @"422 id: stands more than once");
    insta::assert_snapshot!(explain(&MINIMAL.replace(r#""1""#, r#""\ud800""#)), @"422 id: holds half of a surrogate pair");
    insta::assert_snapshot!(explain(&with(r#""datacontenttype":"text/plain","data":"\udc00""#)), @"422 data: holds half of a surrogate pair");
    insta::assert_snapshot!(explain(&with(r#""data_base64":"\udc00""#)), @"422 data_base64: holds half of a surrogate pair");
    insta::assert_snapshot!(explain(&with(r#""data":1,"data_base64":"MQ==""#)), @"422 data_base64: must not stand beside `data`");
    insta::assert_snapshot!(explain(&with(r#""data_base64":"e30=x""#)), @"422 data_base64: is not base64: invalid length at 4");
}

#[test]
fn binary_headers_are_decoded_once() {
    let headers = headers(&[
        ("ce-subject", "%C3%BC%2525"),
        ("ce-ext", "\"a \\\" \\b\""),
        ("content-type", "text/plain"),
    ]);
    let event = parse_binary(&headers, b"hi").unwrap();
    assert_eq!(
        (&*event.data, &*event.content_type),
        (b"hi".as_slice(), "text/plain")
    );
    insta::assert_snapshot!(
        event.cloudevent.unwrap(),
        @r#"{"datacontenttype":"text/plain","ext":"a \" b","id":"1","source":"/s","specversion":"1.0","subject":"ü%25","type":"t"}"#
    );
}

#[test]
fn what_starts_no_escape_and_no_quoted_string_stands_for_itself() {
    for text in [
        "100% off",
        "%",
        "%4",
        "%zz%+1",
        "50%25%",
        "\"open",
        "a \"b\" c",
        "\"a\" b",
    ] {
        let plain = text.replace("%25", "%");
        assert_eq!(decode_header(text.as_bytes()).as_deref(), Some(plain.as_str()));
    }
}

#[test]
fn a_binary_event_is_json_without_data_or_bytes_as_its_body_says() {
    let payload = |pairs: &[(&str, &str)], body: &[u8]| {
        let event = parse_binary(&headers(pairs), body).unwrap();
        (event.content_type.into_owned(), event.data.into_owned())
    };
    let typed = |content_type| [("content-type", content_type)];
    let pair = |content_type: &str, data: &[u8]| (content_type.to_owned(), data.to_owned());
    assert_eq!(payload(&typed(JSON), b""), pair(JSON, b"null"));
    assert_eq!(
        payload(&typed("a/b+json; charset=utf-8"), b""),
        pair("a/b+json; charset=utf-8", b"null")
    );
    assert_eq!(payload(&typed("text/plain"), b""), pair("text/plain", b""));
    assert_eq!(payload(&[], b""), pair(JSON, b"null"));
    assert_eq!(
        payload(&[], b" {\"n\": 1e400}\n"),
        pair(JSON, b" {\"n\": 1e400}\n")
    );
    assert_eq!(
        payload(&[], b"{\"n\":"),
        pair("application/octet-stream", b"{\"n\":")
    );
    let marked = b"\xef\xbb\xbf[1]";
    assert_eq!(payload(&typed(JSON), marked), pair(JSON, b"[1]"));
    assert_eq!(payload(&typed("text/plain"), marked), pair("text/plain", marked));
}

#[test]
fn wrong_binary_events_are_explained() {
    let explain = |pairs: &[(&str, &str)], body: &[u8]| errors(parse_binary(&headers(pairs), body));
    insta::assert_snapshot!(explain(&[("ce-subject", "%FF")], b""), @"422 ce-subject: is not UTF-8 in percent coding");
    insta::assert_snapshot!(explain(&[("ce-subject", "%C0%AF")], b""), @"422 ce-subject: is not UTF-8 in percent coding");
    insta::assert_snapshot!(explain(&[("ce-subject", "100% %FF")], b""), @"422 ce-subject: is not UTF-8 in percent coding");
    insta::assert_snapshot!(explain(&[("ce-id", "2")], b""), @"422 ce-id: stands more than once");
    insta::assert_snapshot!(explain(&[("content-type", "application/json")], b"{"), @"422 body: is not valid JSON: EOF while parsing an object at line 1 column 1");
}

proptest! {
    #[test]
    fn no_body_makes_the_reader_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse_structured(&body);
    }

    #[test]
    fn percent_coded_text_comes_back(text in "\\PC{0,40}") {
        let coded: Vec<_> = text.bytes().map(|byte| format!("%{byte:02x}")).collect();
        prop_assert_eq!(decode_header(coded.concat().as_bytes()), Some(text));
    }
}
