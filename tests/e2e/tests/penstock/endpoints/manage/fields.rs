//! What is wrong with an endpoint is told field by field.

use reqwest::Method;
use serde_json::{Value, json};

use super::{make, path_of};
use crate::calls::{answer, call, json, request, wrong_fields};
use crate::world;

#[tokio::test]
async fn every_wrong_field_is_named() {
    let world = world().await;
    let owner = world.organization().await;
    let wrong = json!({
        "url": "http://169.254.169.254/latest",
        "description": "x".repeat(1_001),
        "event_types": ["a b"],
        "filter": {"total": 1},
        "headers": {"Webhook-Id": "x"},
        "retry": {"attempts": 0, "initial_seconds": 0, "factor": 0.5, "max_seconds": 0, "max_age_seconds": 0},
        "timeout_ms": 99,
        "max_in_flight": 0,
        "rate_limit_per_second": 10_001,
    });
    let create = |body: Value| call(&world, &owner, Method::POST, "").json(&body);
    insta::assert_snapshot!(answer(create(wrong.clone())).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, description, event_types, filter, max_in_flight, timeout_ms, rate_limit_per_second, retry.attempts, retry.initial_seconds, retry.factor, retry.max_seconds, retry.max_age_seconds, headers","errors":[{"field":"url","detail":"169.254.169.254 is not a public address"},{"field":"description","detail":"must have at most 1000 bytes, none of them NUL"},{"field":"event_types","detail":"\"a b\" is neither an event type nor a prefix that ends in `*`"},{"field":"filter","detail":"\"total\" is not a JSON pointer, such as \"/order/total\", and not `type`, `tenant`, `any`, `all` or `not`"},{"field":"max_in_flight","detail":"must be 1 to 1000"},{"field":"timeout_ms","detail":"must be 100 to 30000"},{"field":"rate_limit_per_second","detail":"must be 1 to 10000"},{"field":"retry.attempts","detail":"must be 1 to 100"},{"field":"retry.initial_seconds","detail":"must be 0.1 to 86400"},{"field":"retry.factor","detail":"must be 1 to 10"},{"field":"retry.max_seconds","detail":"must be 1 to 86400"},{"field":"retry.max_age_seconds","detail":"must be 1 to 2592000"},{"field":"headers","detail":"\"Webhook-Id\" is reserved"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url","errors":[{"field":"url","detail":"is missing"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"kind": "pull", "url": "https://example.com/", "ordered": true, "method": "POST", "secret": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "signatures": [{"scheme": "standard"}]}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, method, signatures, secret, ordered","errors":[{"field":"url","detail":"must not stand beside the kind `pull`"},{"field":"method","detail":"must not stand beside the kind `pull`"},{"field":"signatures","detail":"must not stand beside the kind `pull`"},{"field":"secret","detail":"must not stand beside the kind `pull`"},{"field":"ordered","detail":"must not stand beside the kind `pull`"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/\u{0}", "filter": []}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: url, filter","errors":[{"field":"url","detail":"must not contain control characters"},{"field":"filter","detail":"must be a JSON object of pointers and conditions"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/", "format": "xml"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: format","errors":[{"field":"format","detail":"unknown variant `xml`, expected one of `standard`, `cloudevents`, `raw` at line 1 column 15"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/", "headers": {"X-A": "1", "x-a": "2"}}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: headers","errors":[{"field":"headers","detail":"\"x-a\" stands more than once"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"url": "https://example.com/", "secret": "x"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: secret","errors":[{"field":"secret","detail":"not `whsec_` followed by 24 to 64 bytes in base64"}]}
    "#);

    let path = path_of(&make(&world, &owner, &json!({"url": "https://example.com/"})).await);
    let change = |body: Value| call(&world, &owner, Method::PATCH, &path).json(&body);
    assert_eq!(
        answer(change(wrong.clone())).await,
        answer(create(wrong)).await,
        "a change is checked like a new endpoint"
    );
    insta::assert_snapshot!(answer(change(json!({"kind": "pull", "url": null}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: kind, url","errors":[{"field":"kind","detail":"cannot be changed"},{"field":"url","detail":"must not be null"}]}
    "#);
    let shown = json(call(&world, &owner, Method::GET, &path)).await;
    assert_eq!(shown["url"], "https://example.com/");
    world.finish().await;
}

#[tokio::test]
async fn an_array_is_no_object_wherever_it_stands_in_a_form() {
    let world = world().await;
    let owner = world.organization().await;
    let create = |body: Value| call(&world, &owner, Method::POST, "").json(&body);
    let test = |path: &str, body: Value| request(&world, 0, Method::POST, path, &owner.key).json(&body);
    let url = "https://example.com/";
    let nulls = |count| vec![Value::Null; count];
    let standard = [vec![json!("standard")], nulls(9)].concat();
    let bearer = [vec![json!("bearer")], nulls(2), vec![json!("token")], nulls(9)].concat();
    let event = json!({"type": "a", "data": 1});
    for (wrong, field) in [
        (create(json!({"url": url, "retry": [5]})), "retry"),
        (create(json!({"url": url, "auth": bearer})), "auth"),
        (
            create(json!({"url": url, "signatures": [standard]})),
            "signatures[0]",
        ),
        (
            create(json!({"url": url, "template": ["slack", null, null]})),
            "template",
        ),
        (
            test(
                "/v1/templates/test",
                json!({"template": ["slack", null, null], "event": event}),
            ),
            "template",
        ),
        (
            test(
                "/v1/filters/test",
                json!({"filter": {"/a": 1}, "event": ["a", null, 1]}),
            ),
            "event",
        ),
    ] {
        let told = wrong_fields(wrong).await;
        let expected = format!("{field}: invalid type: sequence, expected a JSON object");
        assert!(told.starts_with(&expected), "{told}");
    }
    world.finish().await;
}
