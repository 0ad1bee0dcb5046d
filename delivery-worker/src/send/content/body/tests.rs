use proptest::prelude::*;
use serde_json::Value;

use crate::send::content::body::*;

fn event<'a>(event_type: &'a str, data: &'a [u8]) -> Event<'a> {
    Event {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        org_id: "01890a5d-0000-774b-bcce-b302099a8057".parse().unwrap(),
        event_type,
        accepted_at: UnixMicros::new(1_700_000_000_123_456),
        data,
        ..Event::sample()
    }
}

fn body(event: &Event<'_>, format: Format) -> String {
    String::from_utf8(Outgoing::from(event).body(format, true).to_vec()).unwrap()
}

#[test]
fn a_body_is_the_envelope_around_the_producers_bytes() {
    let event = event("order.created", br#"{"n":1e400,  "s":"\u0000"}"#);
    insta::assert_snapshot!(
        body(&event, Format::Standard),
        @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"order.created","timestamp":"2023-11-14T22:13:20.123456Z","data":{"n":1e400,  "s":"\u0000"}}"#
    );
    insta::assert_snapshot!(
        body(&Event { ordering_key: Some("order-7"), ..event }, Format::CloudEvents),
        @r#"{"datacontenttype":"application/json","id":"01890a5d-ac96-774b-bcce-b302099a8057","partitionkey":"order-7","source":"urn:penstock:organization:01890a5d-0000-774b-bcce-b302099a8057","specversion":"1.0","time":"2023-11-14T22:13:20.123456Z","type":"order.created","data":{"n":1e400,  "s":"\u0000"}}"#
    );
}

#[test]
fn a_payload_that_is_not_json_goes_out_in_base64() {
    let event = Event {
        content_type: "text/plain",
        ..event("note", b"hi \xff")
    };
    insta::assert_snapshot!(
        body(&event, Format::Standard),
        @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"note","timestamp":"2023-11-14T22:13:20.123456Z","content_type":"text/plain","data_base64":"aGkg/w=="}"#
    );
    insta::assert_snapshot!(
        body(&event, Format::CloudEvents),
        @r#"{"datacontenttype":"text/plain","id":"01890a5d-ac96-774b-bcce-b302099a8057","source":"urn:penstock:organization:01890a5d-0000-774b-bcce-b302099a8057","specversion":"1.0","time":"2023-11-14T22:13:20.123456Z","type":"note","data_base64":"aGkg/w=="}"#
    );
}

#[test]
fn a_cloudevent_goes_out_with_its_own_attributes() {
    let event = Event {
        cloudevent: Some(
            r#"{"id":"1","source":"/s","specversion":"1.0","subject":"ü","type":"t","vip":true}"#,
        ),
        content_type: "application/octet-stream",
        ..event("t", b"\x00")
    };
    insta::assert_snapshot!(
        body(&event, Format::CloudEvents),
        @r#"{"datacontenttype":"application/octet-stream","id":"1","source":"/s","specversion":"1.0","subject":"ü","type":"t","vip":true,"data_base64":"AA=="}"#
    );
    let json = Event {
        content_type: event::JSON,
        data: b"[1]",
        ..event
    };
    insta::assert_snapshot!(
        body(&json, Format::CloudEvents),
        @r#"{"id":"1","source":"/s","specversion":"1.0","subject":"ü","type":"t","vip":true,"data":[1]}"#
    );
}

#[test]
fn only_an_endpoint_of_all_tenants_is_told_whose_event_it_is() {
    let event = Event {
        tenant: Some("acme"),
        ..event("a", b"1")
    };
    insta::assert_snapshot!(
        body(&event, Format::Standard),
        @r#"{"id":"01890a5d-ac96-774b-bcce-b302099a8057","type":"a","timestamp":"2023-11-14T22:13:20.123456Z","tenant":"acme","data":1}"#
    );
    insta::assert_snapshot!(
        body(&event, Format::CloudEvents),
        @r#"{"datacontenttype":"application/json","id":"01890a5d-ac96-774b-bcce-b302099a8057","source":"urn:penstock:organization:01890a5d-0000-774b-bcce-b302099a8057","specversion":"1.0","tenant":"acme","time":"2023-11-14T22:13:20.123456Z","type":"a","data":1}"#
    );
    let (of_tenant, of_none) = (
        Outgoing::from(&event),
        Outgoing::from(&Event {
            tenant: None,
            ..event
        }),
    );
    for format in [Format::Standard, Format::CloudEvents] {
        assert_eq!(of_tenant.body(format, false), of_none.body(format, true));
    }
}

#[test]
fn a_raw_body_is_the_payload_with_its_own_media_type() {
    let text = Event {
        content_type: "text/plain; charset=\"ü\"",
        tenant: Some("acme"),
        ..event("note", b"hi \xff")
    };
    let outgoing = Outgoing::from(&text);
    assert_eq!(&outgoing.body(Format::Raw, true)[..], b"hi \xff");
    let media_type = outgoing.media_type(Format::Raw).unwrap();
    assert_eq!(media_type.as_bytes(), text.content_type.as_bytes());
    let json = Outgoing::from(&event("a", br#"{"n":1e400,  "s":"\u0000"}"#));
    assert_eq!(
        &json.body(Format::Raw, false)[..],
        br#"{"n":1e400,  "s":"\u0000"}"#
    );
    assert_eq!(json.media_type(Format::Raw).unwrap(), "application/json");
    let broken = Event {
        content_type: "text/plain\n",
        ..text
    };
    assert!(Outgoing::from(&broken).media_type(Format::Raw).is_err());
}

#[test]
fn a_body_is_rendered_once() {
    let outgoing = Outgoing::from(&event("a", b"1"));
    for format in Format::ALL.iter().copied() {
        let body = || outgoing.body(format, false).as_ptr();
        assert_eq!(body(), body());
    }
}

proptest! {
    #[test]
    fn every_body_is_json_whatever_the_type_and_the_attributes(
        event_type in ".{1,40}",
        cloudevent in proptest::option::of(r"\{?.{0,40}\}?"),
    ) {
        let event = Event { cloudevent: cloudevent.as_deref(), ..event(&event_type, b"[1]") };
        for format in [Format::Standard, Format::CloudEvents] {
            let body: Value = serde_json::from_str(&body(&event, format)).unwrap();
            prop_assert_eq!(body["type"].as_str(), Some(event_type.as_str()));
        }
    }
}
