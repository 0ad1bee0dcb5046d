//! Filters of filters, and conditions on texts, types and tenants.

use super::*;

#[test]
fn filters_have_64_conditions_in_all_and_nest_8_deep() {
    let many = |count: usize| {
        let one = |number: usize| format!(r#"{{"/{number}":1}}"#);
        let all = (0..count).map(one).collect::<Vec<_>>().join(",");
        PayloadFilter::parse(&format!(r#"{{"any":[{all}]}}"#)).map(drop)
    };
    assert_eq!((many(64), many(65)), (Ok(()), Err(FilterError::Size)));
    let deep = |depth: usize| {
        let text = format!(r#"{}{{"/a":1}}{}"#, r#"{"not":"#.repeat(depth), "}".repeat(depth));
        PayloadFilter::parse(&text).map(drop)
    };
    assert_eq!((deep(8), deep(9)), (Ok(()), Err(FilterError::Depth)));
    assert_eq!(deep(400), Err(FilterError::Depth));
}

/// Whether it lets an order of a tenant's pass.
fn passes(filter: &str) -> bool {
    let filter = PayloadFilter::parse(filter).unwrap();
    filter
        .judge("order.created", Some("acme"), Some(ORDER.as_bytes()))
        .passes
}

#[test]
fn filters_combine_and_ask_about_type_and_tenant() {
    for filter in [
        r#"{"any":[{"/total":1},{"/shop":7}]}"#,
        r#"{"all":[{"/total":120},{"/shop":7}]}"#,
        r#"{"not":{"/total":1}}"#,
        r#"{"not":{"/total":120,"/shop":8}}"#,
        r#"{"not":{"any":[{"/total":1},{"/shop":8}]}}"#,
        r#"{"not":{"all":[{"/total":120},{"/shop":8}]}}"#,
        r#"{"not":{"not":{"/total":{"gte":100,"lt":500}}}}"#,
        r#"{"not":{"/total":{"gte":100,"lt":110}}}"#,
        r#"{"not":{"/missing":{"exists":true}},"/shop":7}"#,
        r#"{"type":"order.created","tenant":"acme"}"#,
        r#"{"type":{"prefix":"order."},"tenant":{"in":["b","acme"]}}"#,
        r#"{"any":[{"type":"a"},{"all":[{"tenant":{"ne":"b"}},{"not":{"/shop":8}}]}]}"#,
    ] {
        assert!(passes(filter), "{filter}");
    }
    for filter in [
        r#"{"any":[{"/total":1},{"/shop":8}]}"#,
        r#"{"all":[{"/total":120},{"/shop":8}]}"#,
        r#"{"not":{"/total":120}}"#,
        r#"{"not":{"any":[{"/total":1},{"/shop":7}]}}"#,
        r#"{"any":[{"/total":120}],"/shop":8}"#,
        r#"{"type":{"suffix":".deleted"}}"#,
        r#"{"tenant":{"exists":false}}"#,
    ] {
        assert!(!passes(filter), "{filter}");
    }
    let own = PayloadFilter::parse(r#"{"tenant":{"exists":false}}"#).unwrap();
    assert!(own.matches(b"1"));
}

#[test]
fn texts_are_found_by_their_parts_whatever_their_case_if_so_wanted() {
    let passes = |condition: &str, text: &str| {
        let filter = PayloadFilter::parse(&format!(r#"{{"/a":{condition}}}"#)).unwrap();
        filter.matches(serde_json::json!({ "a": text }).to_string().as_bytes())
    };
    for (condition, text, expected) in [
        (r#"{"prefix":"Ab"}"#, "Abc", true),
        (r#"{"prefix":"Ab"}"#, "abc", false),
        (r#"{"suffix":"bc"}"#, "Abc", true),
        (r#"{"suffix":"bc"}"#, "bcA", false),
        (r#"{"contains":"b"}"#, "Abc", true),
        (r#"{"contains":""}"#, "", true),
        (r#"{"contains":"bd"}"#, "Abcd", false),
        (r#"{"prefix":"AB","ignore_case":true}"#, "aBc", true),
        (r#"{"suffix":"ÉTÉ","ignore_case":true}"#, "un été", true),
        (r#"{"suffix":"été","ignore_case":true}"#, "un etE", false),
        (
            r#"{"contains":"STRASSE","ignore_case":true}"#,
            "Hauptstrasse 1",
            true,
        ),
        (r#"{"contains":"ÜBER","ignore_case":true}"#, "gegenüber", true),
        (r#"{"eq":"ΣΑΣ","ignore_case":true}"#, "σασ", true),
        (r#"{"eq":"ΣΑΣ","ignore_case":true}"#, "σας", false),
        (r#"{"eq":"STRAẞE","ignore_case":true}"#, "straße", true),
        (r#"{"eq":"STRASSE","ignore_case":true}"#, "straße", false),
        (r#"{"eq":"abc","ignore_case":true}"#, "ABCD", false),
        (r#"{"ne":"ABC","ignore_case":true}"#, "abc", false),
        (r#"{"in":["x","ABC",7],"ignore_case":true}"#, "abC", true),
        (r#"{"prefix":"a","suffix":"z"}"#, "abz", true),
    ] {
        assert_eq!(passes(condition, text), expected, "{condition} {text}");
    }
    let number = |condition: &str| {
        let filter = PayloadFilter::parse(&format!(r#"{{"/a":{condition}}}"#)).unwrap();
        filter.matches(br#"{"a":7}"#)
    };
    assert!(number(r#"{"in":["x",7],"ignore_case":true}"#));
    assert!(!number(r#"{"prefix":"7"}"#));
    assert!(!number(r#"{"contains":"7","ignore_case":true}"#));
}

#[test]
fn what_cannot_be_read_makes_no_negation_true() {
    let half = r#"{"k":"a\ud83d","b":1}"#;
    for (filter, matched) in [
        (r#"{"not":{"/k":"a"}}"#, false),
        (r#"{"not":{"/k":{"ne":"a"}}}"#, false),
        (r#"{"not":{"/k":{"contains":"b"}}}"#, false),
        (r#"{"not":{"/k":"a","/b":2}}"#, true),
        (r#"{"not":{"/k":{"exists":false}}}"#, true),
    ] {
        let filter = PayloadFilter::parse(filter).unwrap();
        assert_eq!(filter.matches(half.as_bytes()), matched, "{filter:?}");
    }
    let not = PayloadFilter::parse(r#"{"not":{"/k":"a"}}"#).unwrap();
    assert!(!not.matches(b"no JSON"));
    let of_type = PayloadFilter::parse(r#"{"not":{"type":"b"}}"#).unwrap();
    assert!(
        of_type.judge("a", None, None).passes,
        "it does not ask about the payload"
    );
    let of_both = PayloadFilter::parse(r#"{"any":[{"type":"a"},{"/a":1}]}"#).unwrap();
    assert!(!of_both.judge("a", None, None).passes);
}

#[test]
fn the_condition_that_decides_is_named() {
    let decided = |filter: &str| {
        let (filter, paths) = PayloadFilter::parse_with_paths(filter).unwrap();
        let decision = filter.judge("order.created", None, Some(ORDER.as_bytes()));
        (decision.passes, decision.by.map(|number| paths[number].clone()))
    };
    for (filter, passes, path) in [
        (
            r#"{"/shop":7,"/total":{"gte":100,"lt":110}}"#,
            false,
            "/~1total/lt",
        ),
        (
            r#"{"any":[{"/total":1},{"/a~1b/~0":true}]}"#,
            true,
            "/any/1/~1a~01b~1~00",
        ),
        (
            r#"{"any":[{"type":"order.created"},{"/shop":7}]}"#,
            true,
            "/any/0/type",
        ),
        (r#"{"not":{"/shop":{"in":[7]}}}"#, false, "/not/~1shop/in"),
    ] {
        assert_eq!(decided(filter), (passes, Some(path.to_owned())), "{filter}");
    }
}

#[test]
fn a_search_in_a_long_text_is_a_pause_and_is_counted() {
    let filter = r#"{"/a":{"contains":"b"},"/c":{"contains":"d","ignore_case":true}}"#;
    let filter = Arc::new(PayloadFilter::parse(filter).unwrap());
    let set = FilterSet::new(vec![filter.clone()]);
    let long = "a".repeat(40_000) + "B";
    let data = format!(r#"{{"a":"{long}b","c":"{long}D"}}"#);
    let mut scan = set.scan(data.as_bytes()).unwrap();
    scan.advance(usize::MAX).unwrap();
    let values = scan.into_values();
    let asked = Asked {
        event_type: "a",
        tenant: None,
        values: Some(&values),
    };
    let mut judging = set.judge(0, asked).unwrap();
    assert!(matches!(judging.go_on(), Progress::Paused(10_000..)));
    assert!(matches!(judging.go_on(), Progress::Paused(10_000..)));
    assert!(matches!(
        judging.go_on(),
        Progress::Decided(Decision { passes: true, .. })
    ));
    assert!((20_000..21_000).contains(&(set.steps(0, asked) - filter.steps())));
}
