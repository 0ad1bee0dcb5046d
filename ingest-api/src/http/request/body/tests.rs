use std::collections::BTreeMap;

use serde::Deserialize;

use crate::http::request::body::*;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Form {
    text: String,
    number: f64,
    map: BTreeMap<String, String>,
    inner: Option<Box<Form>>,
}

fn refused(body: &str) -> String {
    parse_form::<Form>(body.as_bytes()).unwrap_err().in_words()
}

#[test]
fn a_name_that_stands_twice_is_told_wherever_it_stands() {
    insta::assert_snapshot!(refused(r#"{"text":"a","text":"a"}"#), @"422 text: stands more than once");
    insta::assert_snapshot!(refused(r#"{"map":{"a":"1","b":"2","a":"3"}}"#), @"422 map.a: stands more than once");
    insta::assert_snapshot!(refused(r#"{"inner":{"inner":{"number":1,"number":2}}}"#), @"422 inner.inner.number: stands more than once");
    insta::assert_snapshot!(refused(r#"{"other":[{"a":1,"a":2}]}"#), @"422 other[0].a: stands more than once");
}

#[test]
fn valid_json_that_cannot_be_held_is_not_called_invalid() {
    insta::assert_snapshot!(refused(r#"{"text":"\ud800"}"#), @"422 text: holds half of a surrogate pair");
    insta::assert_snapshot!(refused(r#"{"inner":{"number":1e400}}"#), @"422 inner.number: number out of range");
    insta::assert_snapshot!(refused(r#"{"text":"a","number":}"#), @"400 the body is not valid JSON: expected value at line 1 column 22");
    insta::assert_snapshot!(refused(r#"{"text":7,"number":}"#), @"400 the body is not valid JSON: expected value at line 1 column 20");
    insta::assert_snapshot!(refused("{} {}"), @"400 the body is not valid JSON: trailing characters at line 1 column 4");
}

#[test]
fn an_array_of_a_forms_fields_is_no_form() {
    insta::assert_snapshot!(refused(r#" ["a", 1]"#), @"422 body: must be a JSON object");
    insta::assert_snapshot!(refused(r#"[{"text":"a","text":"a"}]"#), @"422 body: must be a JSON object");
}

#[test]
fn a_byte_order_mark_is_ignored_in_front_and_only_there() {
    assert_eq!(
        parse_form::<Form>("\u{feff}{\"text\":\"\u{feff}\"}".as_bytes())
            .unwrap()
            .text,
        "\u{feff}"
    );
    insta::assert_snapshot!(refused("\u{feff}\u{feff}{}"), @"400 the body is not valid JSON: expected value at line 1 column 1");
}
