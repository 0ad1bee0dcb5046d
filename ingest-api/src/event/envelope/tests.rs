use proptest::prelude::*;
use shared::wire::frame;

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
    for array in ["[]", r#"["a",1]"#, r#" ["a",1,null,null,null]"#] {
        assert_eq!(
            fields(array),
            "422 body: must be a JSON object with `type` and `data`"
        );
    }
    insta::assert_snapshot!(fields(r#"["a",1"#), @"400 the body is not valid JSON: EOF while parsing a list at line 1 column 6");
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
fn the_ordering_key_and_the_only_endpoint_travel_with_the_event() {
    let endpoint_id = EndpointId::generate();
    let event = NewEvent {
        ordering_key: Some("k".into()),
        only_to: Some(endpoint_id),
        ..NewEvent::of_json("a", b"1".as_slice())
    };
    let (_, encoded) = event.encode(OrgId::generate(), UnixMicros::now(), TraceContext::default());
    let payload = frame::encode([&encoded].into_iter());
    let decoded = frame::decode(Some(frame::VERSION), &payload).unwrap();
    let decoded = decoded[0].as_ref().unwrap();
    assert_eq!(
        (decoded.ordering_key, decoded.only_to),
        (Some("k"), Some(endpoint_id))
    );
}

#[test]
fn two_tenants_equal_keys_name_two_events() {
    let org_id = OrgId::generate();
    let identities = [
        Identity::Key("k".into()),
        Identity::CloudEvent {
            source: "/s".into(),
            id: "1".into(),
        },
    ];
    for identity in identities {
        let id = |tenant: Option<&'static str>| {
            let event = NewEvent {
                identity: identity.clone(),
                tenant: tenant.map(Into::into),
                ..NewEvent::of_json("a", b"1".as_slice())
            };
            event.encode(org_id, UnixMicros::now(), TraceContext::default()).0
        };
        assert_eq!(id(Some("one")), id(Some("one")));
        assert_ne!(id(Some("one")), id(Some("other")));
        assert_ne!(id(Some("one")), id(None));
    }
}

#[test]
fn a_key_and_a_cloudevent_of_the_same_text_are_different_events() {
    let org_id = OrgId::generate();
    let event = |identity| NewEvent {
        identity,
        ..NewEvent::of_json("a", b"1".as_slice())
    };
    let now = UnixMicros::now();
    let id = |identity| event(identity).encode(org_id, now, TraceContext::default()).0;
    let cloudevent = || Identity::CloudEvent {
        source: "/s".into(),
        id: "1".into(),
    };
    assert_eq!(id(cloudevent()), id(cloudevent()));
    assert_ne!(id(cloudevent()), id(Identity::Key(r#"["/s","1"]"#.into())));
    assert_ne!(id(Identity::Unique), id(Identity::Unique));
}

proptest! {
    #[test]
    fn no_body_makes_the_parser_panic(body in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&body);
    }
}
