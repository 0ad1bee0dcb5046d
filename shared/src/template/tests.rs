use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::clock::UnixMicros;
use crate::domain::event::JSON;

fn event(data: &[u8]) -> Event<'_> {
    Event {
        id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        event_type: "order.created",
        accepted_at: UnixMicros::new(1_700_000_000_123_456),
        tenant: Some("acme"),
        data,
        ..Event::sample()
    }
}

fn render(source: &str, data: &str) -> Result<String, TemplateError> {
    Template::parse(source, JSON).and_then(|template| template.render(&event(data.as_bytes())))
}

#[test]
fn a_template_sees_what_an_event_tells() {
    let source = r#"["{{ id }}", "{{ type }}", "{{ time }}", "{{ tenant }}", {{ ordering_key }}, "{{ content_type }}",
        "{{ data_text }}", {{ data }}, {{ data.n + 1 }}, "{{ data.missing }}", "{{ data.s | upper }}"]"#;
    let body = render(source, r#"{"n":41,"s":"a\"b\n","t":[1.5,true,null]}"#).unwrap();
    insta::assert_snapshot!(body, @r#"
    ["01890a5d-ac96-774b-bcce-b302099a8057", "order.created", "2023-11-14T22:13:20.123456Z", "acme", null, "application/json",
            "{\"n\":41,\"s\":\"a\\\"b\\n\",\"t\":[1.5,true,null]}", {"n": 41, "s": "a\"b\n", "t": [1.5, true, null]}, 42, "", "A\"B\n"]
    "#);
}

#[test]
fn numbers_keep_their_digits() {
    let source =
        r#"["{{ data.a }}","{{ data.b }}","{{ data.c }}","{{ data.d }}","{{ data.e }}","{{ data.f }}"]"#;
    let data = r#"{"a":12345678901234567890,"b":1e400,"c":-7,"d":0.5,"e":1234567890123456789012345678901234567890123,"f":-1.5e-400}"#;
    insta::assert_snapshot!(
        render(source, data).unwrap(),
        @r#"["12345678901234567890","1e400","-7","0.5","1234567890123456789012345678901234567890123","-1.5e-400"]"#
    );
}

#[test]
fn a_number_with_a_point_is_a_double_and_the_payload_as_text_keeps_all_digits() {
    let data = r#"{"a":0.1234567890123456789,"b":1.10,"c":12345678901234567890123}"#;
    let source = "[{{ data.a }},{{ data.b }},{{ data.c }}]";
    assert_eq!(
        render(source, data).unwrap(),
        "[0.12345678901234568,1.1,12345678901234567890123]"
    );
    assert_eq!(render("{{ data_text | safe }}", data).unwrap(), data);
}

#[test]
fn what_a_block_makes_is_escaped_once_when_it_is_said_to_be_safe() {
    let source = r#"{% set x %}{{ data }}{% endset %}"{{ x | safe }} {% filter upper | safe %}{{ data }}{% endfilter %}""#;
    assert_eq!(render(source, r#""a\"b""#).unwrap(), r#""a\"b A\"B""#);
}

#[test]
fn texts_are_escaped_for_the_media_type() {
    let rendered = |content_type| {
        let template = Template::parse("<b>{{ data.s }}</b>", content_type).unwrap();
        template.render(&event(br#"{"s":"<&\""}"#)).unwrap()
    };
    assert_eq!(rendered("text/html; charset=utf-8"), "<b>&lt;&amp;&quot;</b>");
    assert_eq!(rendered("application/atom+xml"), "<b>&lt;&amp;&quot;</b>");
    assert_eq!(rendered("text/plain"), "<b><&\"</b>");
    for wrong in ["", "json", "a/b\r\nx: y", "a b/c", "/json", "application/", "é/x"] {
        let error = Template::parse("{}", wrong).unwrap_err();
        assert_eq!(error, TemplateError::ContentType, "{wrong:?}");
    }
}

#[test]
fn a_wrong_template_is_explained_with_its_line() {
    let error = |source: &str| render(source, r#"{"a":{"b":1}}"#).unwrap_err().to_string();
    for (source, line) in [
        ("{\n\"a\": {{ type \n}", "line 3: syntax error"),
        ("\n{% if type %}", "line 2: syntax error"),
        ("{% include 'x' %}", "line 1: syntax error"),
        ("{% macro f() %}{% endmacro %}", "line 1: syntax error"),
        ("{}\n{{ type | nothing }}", "line 2: unknown filter"),
        ("{}\n{{ now() }}", "line 2: unknown function"),
        ("\n\n{{ data.x.y }}", "line 3: undefined value"),
        ("{\"a\": \"{{ type }}}", "the body is not JSON"),
        ("", "must have 1 to 16384 bytes"),
    ] {
        let error = error(source);
        assert!(error.starts_with(line), "{source}: {error}");
    }
    assert_eq!(
        Template::parse(&"a".repeat(MAX_SOURCE_BYTES + 1), JSON).unwrap_err(),
        TemplateError::Size
    );
}

#[test]
fn a_hostile_template_ends_with_its_fuel() {
    let double = "{% set x = x ~ x %}".repeat(40);
    for source in [
        "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}".to_owned(),
        "{{ 'x' * 1000000000 }}".to_owned(),
        format!("{{% set x = 'xxxxxxxxxxxxxxxx' %}}{double}{{{{ x }}}}"),
        "{% for a in range(100000) %}{{ data_text }}{% endfor %}".to_owned(),
        "{{ range(100000) | map('string') | join('xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx') }}".to_owned(),
        "{{ '%1000000000d' | format(1) }}".to_owned(),
        "{% for a in [data] recursive %}{{ loop([a, a]) }}{% endfor %}".to_owned(),
    ] {
        let error = render(&source, &format!("\"{}\"", "a".repeat(10_000))).unwrap_err();
        let is_expected = matches!(error, TemplateError::Fuel | TemplateError::At { .. });
        assert!(is_expected, "{source:.60}: {error}");
    }
    assert_eq!(
        render(
            "\"{% for a in range(300) %}{{ data }}{% endfor %}\"",
            &format!("\"{}\"", "a".repeat(1_000))
        ),
        Err(TemplateError::Output)
    );
}

/// Each of these would end the process on a usual stack.
#[test]
fn what_is_nested_deep_ends_with_an_error_or_a_body() {
    let parsed = [
        format!("{{{{ {}1{} }}}}", "(".repeat(8_000), ")".repeat(8_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(8_000), "]".repeat(8_000)),
        "{% if 1 %}".repeat(1_600),
        format!("{{{{ {}true }}}}", "not ".repeat(4_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(16_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(8_000)),
        format!("{{{{ 1{} }}}}", "**1".repeat(5_000)),
        format!("{{{{ data{} }}}}", ".a".repeat(8_000)),
        format!("{{{{ data{} }}}}", "[0]".repeat(5_000)),
        format!("{{{{ data{} }}}}", "|e".repeat(8_000)),
        format!("{{{{ 1{} }}}}", " if 1".repeat(3_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(1_200)),
    ];
    let nest = "{% set n = namespace(x=[]) %}{% for i in range(100000) %}{% set n.x = [n.x] %}{% endfor %}";
    let made = |loops: &str, then: &str| nest.replace("100000", loops) + then;
    let rendered = [
        made("100000", ""),
        made("10000", "1"),
        made("10000", "{{ n.x }}"),
        made("10000", "{{ n.x | tojson }}"),
        made("10000", "{{ n.x == [n.x] }}"),
        made("10000", "{{ n.x | string | length }}"),
        made("10000", "{{ [n.x, [n.x]] | unique | length }}"),
        made("10000", "{{ {'a': n.x} | dictsort }}"),
    ];
    for source in parsed.iter().chain(&rendered) {
        let _ = render(source, "{}");
    }
    assert_eq!(render(&rendered[1], "{}").unwrap(), "1");
}

#[test]
fn what_it_prints_of_itself_holds_no_template() {
    let template = Template::parse("\"canary-77\"", JSON).unwrap();
    assert!(!format!("{template:?}").contains("canary"));
}

proptest! {
    #[test]
    fn presets_make_json_of_every_event(text in ".{0,200}", event_type in ".{1,40}", tenant in proptest::option::of(".{1,20}")) {
        let data = serde_json::json!({"summary": text, "routing_key": text, "custom_details": {"a": text}}).to_string();
        for data in [data.as_bytes(), text.as_bytes(), b"\xff"] {
            let event = Event {
                event_type: &event_type,
                tenant: tenant.as_deref(),
                content_type: if data.starts_with(b"{\"") { JSON } else { "text/plain" },
                ..event(data)
            };
            for preset in [Preset::Slack, Preset::Teams, Preset::Discord, Preset::PagerDuty] {
                let rendered = Template::parse(preset.source(), JSON).unwrap().render(&event);
                if preset == Preset::PagerDuty && event.content_type != JSON {
                    continue;
                }
                let body: Value = serde_json::from_str(&rendered.unwrap()).unwrap();
                prop_assert!(body.is_object());
            }
        }
    }

    #[test]
    fn no_template_and_no_payload_panic(source in ".{1,60}", data in proptest::collection::vec(any::<u8>(), 0..60)) {
        if let Ok(template) = Template::parse(&source, JSON) {
            let _ = template.render(&event(&data));
        }
    }

    #[test]
    fn what_stands_in_quotes_stays_in_them(text in any::<String>()) {
        let body = render("\"{{ data }}\"", &serde_json::json!(text).to_string()).unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(&body).unwrap(), text);
    }
}
