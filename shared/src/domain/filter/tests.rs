use std::sync::Arc;

use proptest::prelude::*;

use super::*;

mod nested;

const ORDER: &str = r#"{"total":120.0,"lines":[{"sku":"a"},{"sku":"b"}],"shop":7,"a/b":{"~":true},"note":null,
    "big":12345678901234567890,"huge":1e400,"name":"\u0065va"}"#;

fn matches(filter: &str) -> bool {
    PayloadFilter::parse(filter).unwrap().matches(ORDER.as_bytes())
}

#[test]
fn conditions_hold_for_what_stands_in_the_payload() {
    for filter in [
        r#"{"/total":{"gte":120,"lt":121}}"#,
        r#"{"/total":120}"#,
        r#"{"/lines/1/sku":"b"}"#,
        r#"{"/a~1b/~0":true}"#,
        r#"{"/note":null}"#,
        r#"{"/missing":{"exists":false},"/note":{"exists":true}}"#,
        r#"{"/shop":{"in":["x",7]}}"#,
        r#"{"/shop":{"ne":8}}"#,
        r#"{"/missing":{"ne":8}}"#,
        r#"{"/big":12345678901234567890}"#,
        r#"{"/huge":{"gt":5}}"#,
        r#"{"/name":"eva"}"#,
        r#"{"":{"exists":true}}"#,
    ] {
        assert!(matches(filter), "{filter}");
    }
}

#[test]
fn conditions_fail_for_what_does_not() {
    for filter in [
        r#"{"/total":{"gt":120}}"#,
        r#"{"/total":120,"/shop":8}"#,
        r#"{"/lines/01/sku":"b"}"#,
        r#"{"/lines/2":{"exists":true}}"#,
        r#"{"/shop":"7"}"#,
        r#"{"/note":{"gt":-1}}"#,
        r#"{"/missing":{"in":[null]}}"#,
        r#"{"/big":12345678901234567891}"#,
        r#"{"/shop/x":{"exists":true}}"#,
    ] {
        assert!(!matches(filter), "{filter}");
    }
}

#[test]
fn a_payload_that_is_not_json_matches_nothing() {
    let filter = PayloadFilter::parse(r#"{"/a":{"exists":false}}"#).unwrap();
    assert!(filter.matches(b"{}"));
    assert!(!filter.matches(b"hello"));
    assert!(!filter.matches(b"\xff"));
}

#[test]
fn numbers_are_compared_exactly_on_both_sides() {
    let matches = |filter: &str, data: &str| {
        let filter = PayloadFilter::parse(&format!(r#"{{"/id":{filter}}}"#)).unwrap();
        filter.matches(format!(r#"{{"id":{data}}}"#).as_bytes())
    };
    for (filter, data) in [
        (r#"{"gte":1780921717355446273}"#, "1780921717355446273"),
        (r#"{"lt":1780921717355446273}"#, "1780921717355446272"),
        (r#"{"ne":123456789012345678902}"#, "123456789012345678901"),
        ("123456789012345678901", "123456789012345678901"),
        (r#"{"in":[7,123456789012345678901]}"#, "1.23456789012345678901e20"),
        ("1e16", "10000000000000000"),
        ("-0", "0"),
        (r#"{"gt":1e400}"#, "1e999999999"),
        (r#"{"lt":-1e400}"#, "-1e999999999"),
        (r#"{"gt":0,"lt":1e-400}"#, "1e-999999999"),
    ] {
        assert!(matches(filter, data), "{filter} {data}");
    }
    for (filter, data) in [
        (r#"{"gte":1780921717355446273}"#, "1780921717355446272"),
        ("123456789012345678902", "123456789012345678901"),
        (r#"{"ne":1e16}"#, "10000000000000000"),
        (r#"{"ne":0}"#, "-0.0e5"),
        (r#"{"in":[123456789012345678902]}"#, "123456789012345678901"),
        (r#"{"lt":1e400}"#, "1e999999999"),
    ] {
        assert!(!matches(filter, data), "{filter} {data}");
    }
}

#[test]
fn half_a_surrogate_pair_makes_no_negative_condition_true() {
    let matches = |filter: &str, data: &str| PayloadFilter::parse(filter).unwrap().matches(data.as_bytes());
    // The name is skipped, and what stands beside it is read.
    let name = r#"{"k\ud83d":1,"total":5,"in":{"\udc00":{},"x":1}}"#;
    for (filter, matched) in [
        (r#"{"/total":5}"#, true),
        (r#"{"/total":{"exists":false}}"#, false),
        (r#"{"/total":{"ne":5}}"#, false),
        (r#"{"/in/x":{"ne":1}}"#, false),
        (r#"{"/in":{"exists":true},"/in/x":1}"#, true),
        (r#"{"/k":{"exists":false}}"#, true),
    ] {
        assert_eq!(matches(filter, name), matched, "{filter}");
    }
    // A string that is no text is there, and neither equals anything nor differs from it.
    let value = r#"{"k":"a\ud83d"}"#;
    for (filter, matched) in [
        (r#"{"/k":{"exists":true}}"#, true),
        (r#"{"/k":{"exists":false}}"#, false),
        (r#"{"/k":{"ne":"a"}}"#, false),
        (r#"{"/k":{"ne":5}}"#, false),
        (r#"{"/k":"a"}"#, false),
        (r#"{"/k":{"in":["a"]}}"#, false),
        (r#"{"/k/x":{"exists":false}}"#, true),
    ] {
        assert_eq!(matches(filter, value), matched, "{filter}");
    }
}

#[test]
fn what_cannot_be_read_to_its_end_matches_nothing() {
    let filter = PayloadFilter::parse(r#"{"/x":{"exists":false},"/y":{"ne":1}}"#).unwrap();
    let deep = "[".repeat(100_000);
    for data in [
        r#"{"a":1"#,
        r#"{"a":1}}"#,
        r#"{"a":01}"#,
        r#"{"a":"\x"}"#,
        "",
        " ",
        "[1,]",
        &deep,
    ] {
        assert!(!filter.matches(data.as_bytes()), "{data:.20}");
    }
    assert!(filter.matches(br#" {"a" : [ ] , "b" : { } } "#));
}

#[test]
fn of_a_repeated_name_the_last_one_counts_with_all_that_is_in_it() {
    let data = br#"{"a":{"b":1,"c":2},"a":{"c":3},"d":[1,2],"d":[4],"e":1,"\u0065":2}"#;
    for (filter, matched) in [
        (r#"{"/a/b":{"exists":false}}"#, true),
        (r#"{"/a/c":3}"#, true),
        (r#"{"/a/c":2}"#, false),
        (r#"{"/d/1":{"exists":true}}"#, false),
        (r#"{"/d/0":4}"#, true),
        (r#"{"/e":2}"#, true),
    ] {
        assert_eq!(
            PayloadFilter::parse(filter).unwrap().matches(data),
            matched,
            "{filter}"
        );
    }
}

#[test]
fn one_reading_answers_for_all_filters_in_slices_of_any_size() {
    let filters = [
        r#"{"/total":120}"#,
        r#"{"":{"ne":1},"/lines":{"ne":2},"/lines/1/sku":"b"}"#,
        r#"{"/shop":8}"#,
    ];
    let filters = filters.map(|filter| Arc::new(PayloadFilter::parse(filter).unwrap()));
    let set = FilterSet::new(filters.to_vec());
    for slice in [1, 7, 1_000] {
        let mut scan = set.scan(ORDER.as_bytes()).unwrap();
        let mut slices = 1;
        while !scan.advance(slice).unwrap() {
            slices += 1;
        }
        assert!(slices > ORDER.len() / slice / 40, "{slices} of {slice}");
        let values = scan.into_values();
        let asked = Asked {
            event_type: "a",
            tenant: None,
            values: Some(&values),
        };
        let passes = |number| set.judge(number, asked).map(|judging| judging.finish().passes);
        assert_eq!(
            [0, 1, 2, 3].map(passes),
            [Some(true), Some(true), Some(false), None]
        );
    }
}

#[test]
fn the_longest_hostile_input_is_read_in_no_time() {
    // The payload is all numbers with a vast exponent, and all names are the same; each was once read anew for
    // every step of every pointer.
    let steps = "/0".repeat(1_700);
    let filter =
        PayloadFilter::parse(&format!(r#"{{"{steps}":1,"/a":{{"gt":1e{}}}}}"#, "9".repeat(500))).unwrap();
    let member = format!(r#""a":1e{},"#, "9".repeat(400));
    let data = format!(r#"{{{}"a":1e{}}}"#, member.repeat(600), "9".repeat(501));
    assert!(!filter.matches(data.as_bytes()));
    let filter = PayloadFilter::parse(&format!(r#"{{"/a":{{"gt":1e{}}}}}"#, "9".repeat(500))).unwrap();
    assert!(filter.matches(data.as_bytes()));
}

#[test]
fn a_wrong_filter_is_explained() {
    let error = |text: &str| PayloadFilter::parse(text).unwrap_err().to_string();
    assert_eq!(error("[]"), "must be a JSON object of pointers and conditions");
    assert_eq!(error("{}"), "must have 1 to 64 conditions and at most 4096 bytes");
    assert_eq!(
        error(r#"{"total":1}"#),
        r#""total" is not a JSON pointer, such as "/order/total", and not `type`, `tenant`, `any`, `all` or `not`"#
    );
    assert_eq!(
        error(r#"{"/a~2":1}"#),
        r#""/a~2" is not a JSON pointer, such as "/order/total", and not `type`, `tenant`, `any`, `all` or `not`"#
    );
    assert_eq!(
        error(r#"{"/a":{"like":1}}"#),
        r#""/a": has an operator other than eq, ne, in, exists, gt, gte, lt, lte, prefix, suffix, contains, ignore_case"#
    );
    assert_eq!(error(r#"{"/a":{"gt":"5"}}"#), r#""/a": compares with a number"#);
    assert_eq!(error(r#"{"/a":{}}"#), r#""/a": has no operator"#);
    assert_eq!(
        error(r#"{"any":[]}"#),
        "`any` must be a list of one or more filters"
    );
    assert_eq!(
        error(r#"{"all":{"/a":1}}"#),
        "`all` must be a list of one or more filters"
    );
    assert_eq!(
        error(r#"{"not":7}"#),
        "must be a JSON object of pointers and conditions"
    );
    assert_eq!(error(r#"{"type":{"prefix":5}}"#), r#""type": looks for a string"#);
    let beside = r#""/a": `ignore_case` stands beside eq, ne, in, prefix, suffix or contains"#;
    assert_eq!(error(r#"{"/a":{"gt":1,"ignore_case":true}}"#), beside);
    assert_eq!(
        error(r#"{"/a":{"ignore_case":false}}"#),
        r#""/a": has no operator"#
    );
    assert_eq!(
        error(r#"{"/a":{"eq":"x","ignore_case":1}}"#),
        r#""/a": `ignore_case` is true or false"#
    );
}

proptest! {
    #[test]
    fn no_filter_and_no_payload_panic(filter in ".{0,60}", data in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(filter) = PayloadFilter::parse(&filter) {
            let _ = filter.matches(&data);
        }
        let filter = PayloadFilter::parse(r#"{"/a/0":{"gt":1},"":{"ne":"x"}}"#).unwrap();
        let _ = filter.matches(&data);
    }
}
