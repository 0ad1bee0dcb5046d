//! The schemes that an endpoint signs with, as its owner sets them.

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::{Value, json};

use crate::calls::{answer, call, json, status, wrong_fields};
use crate::world;

async fn make(world: &World, owner: &Organization, fields: Value) -> (Value, String) {
    let mut fields = fields;
    fields["url"] = "https://example.com/".into();
    let made = json(call(world, owner, Method::POST, "").json(&fields)).await;
    let path = format!("/{}", made["id"].as_str().expect("an endpoint has an id"));
    (made, path)
}

async fn stored(world: &World) -> (String, Option<Vec<u8>>) {
    let query = sqlx::query_as("select format, signatures from endpoints order by created_at desc limit 1");
    query.fetch_one(world.database()).await.expect("Postgres runs")
}

#[tokio::test]
async fn what_a_change_leaves_out_of_a_scheme_is_kept_and_a_new_scheme_needs_a_secret() {
    let world = world().await;
    let owner = world.organization().await;
    let signatures = json!([{"scheme": "ed25519"}, {"scheme": "github", "secret": "a"}]);
    let (made, path) = make(&world, &owner, json!({"signatures": signatures})).await;
    let change = |signatures: Value| {
        call(&world, &owner, Method::PATCH, &path).json(&json!({"signatures": signatures}))
    };
    let key = async || json(call(&world, &owner, Method::GET, &format!("{path}/public-key"))).await;
    let first = key().await;
    let shown = json(change(made["signatures"].clone())).await;
    assert_eq!(
        shown["signatures"], made["signatures"],
        "what is shown can be sent back"
    );
    assert_eq!(key().await, first);
    let changed = json(change(json!([
        {"scheme": "hmac", "header": "x-hub-signature-256", "hash": "sha1"},
        {"scheme": "standard", "until": "2030-05-05T02:00:00+02:00"},
    ])))
    .await;
    assert_eq!(changed["signatures"][0]["hash"], "sha1");
    assert_eq!(changed["signatures"][1]["until"], "2030-05-05T00:00:00.000000Z");
    assert_eq!(
        status(call(&world, &owner, Method::GET, &format!("{path}/public-key"))).await,
        404
    );
    let rotate = call(&world, &owner, Method::POST, &format!("{path}/rotate-key"));
    assert_eq!(status(rotate).await, 404);
    insta::assert_snapshot!(answer(change(json!([{"scheme": "stripe"}]))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: signatures[0].secret","errors":[{"field":"signatures[0].secret","detail":"is missing"}]}
    "#);
    let reset = json(call(&world, &owner, Method::PATCH, &path).json(&json!({"signatures": null}))).await;
    assert_eq!(
        reset["signatures"],
        json!([{"scheme": "standard", "until": null}])
    );
    world.finish().await;
}

#[tokio::test]
async fn every_wrong_field_of_a_scheme_is_named() {
    let world = world().await;
    let owner = world.organization().await;
    let wrong = async |fields: Value| {
        let mut fields = fields;
        fields["url"] = "https://example.com/".into();
        wrong_fields(call(&world, &owner, Method::POST, "").json(&fields)).await
    };
    let hmac = |fields: Value| {
        let mut scheme = json!({"scheme": "hmac", "header": "X-A", "secret": "s"});
        for (name, value) in fields.as_object().unwrap() {
            scheme[name] = value.clone();
        }
        json!({"signatures": [scheme]})
    };
    insta::assert_snapshot!(wrong(hmac(json!({"signed": "{timestamp}"}))).await, @"signatures[0].signed: must have `{body}` in it");
    insta::assert_snapshot!(wrong(hmac(json!({"signed": "{data}{body}", "prefix": "{body}"}))).await, @"signatures[0].signed: `{data}` is no placeholder: there are `{body}`, `{timestamp}` and `{id}`");
    insta::assert_snapshot!(wrong(hmac(json!({"header": "Webhook-Signature", "prefix": "ü", "timestamp_header": "a b"}))).await, @r#"
    signatures[0].prefix: must be visible ASCII and spaces, and not begin with a space
    signatures[0].header: "Webhook-Signature" is reserved
    signatures[0].timestamp_header: "a b" is not a header name
    "#);
    insta::assert_snapshot!(wrong(hmac(json!({"secret": "", "timestamp_header": "x-a"}))).await, @r#"
    signatures[0].secret: must have 1 to 1024 bytes
    signatures[0].timestamp_header: "x-a" is sent already, for something else
    "#);
    insta::assert_snapshot!(wrong(hmac(json!({"secret_base64": "AA=="}))).await, @"signatures[0].secret_base64: must not stand beside `secret`");
    insta::assert_snapshot!(wrong(json!({"signatures": [{"scheme": "hmac", "secret_base64": "!"}, {"scheme": "github", "secret_base64": "!"}]})).await, @r"
    signatures[0].header: is missing
    signatures[1].secret_base64: is not base64
    ");
    insta::assert_snapshot!(wrong(json!({"signatures": [{"scheme": "standard", "secret": "x"}, {"scheme": "github", "header": "X-A", "secret": "x"}]})).await, @r"
    signatures[0].secret: must not stand beside the scheme `standard`
    signatures[1].header: must not stand beside the scheme `github`
    ");
    insta::assert_snapshot!(wrong(json!({"signatures": [{"scheme": "github", "secret": "x"}], "headers": {"x-hub-signature-256": "x"}})).await, @r#"signatures[0].header: "X-Hub-Signature-256" is sent already, for something else"#);
    insta::assert_snapshot!(wrong(json!({"signatures": [{"scheme": "standard"}, {"scheme": "standard"}]})).await, @"signatures[1].scheme: stands more than once");
    insta::assert_snapshot!(wrong(json!({"signatures": []})).await, @"signatures: must have 1 to 3 schemes");
    insta::assert_snapshot!(wrong(json!({"signatures": [{"scheme": "standard", "until": "2030-01-01T00:00:00Z"}]})).await, @"signatures: must have a scheme without `until`: later there would be no signature");
    insta::assert_snapshot!(wrong(json!({"signatures": [{"scheme": "paypal"}]})).await, @"signatures[0].scheme: unknown variant `paypal`, expected one of `standard`, `ed25519`, `hmac`, `github`, `stripe`, `shopify`, `slack` at line 1 column 33");
    insta::assert_snapshot!(wrong(json!({"method": "PATCH"})).await, @"method: unknown variant `PATCH`, expected `POST` or `PUT` at line 1 column 17");
    world.finish().await;
}

/// So that workers that would leave these settings out stop: see `StoredFormat`.
#[tokio::test]
async fn an_endpoint_that_earlier_releases_would_send_otherwise_to_has_a_format_that_they_do_not_know() {
    let world = world().await;
    let owner = world.organization().await;
    let github = json!([{"scheme": "github", "secret": "x"}]);
    for (fields, format) in [
        (json!({}), "standard"),
        (
            json!({"method": "POST", "signatures": [{"scheme": "standard"}]}),
            "standard",
        ),
        (json!({"format": "raw"}), "raw"),
        (json!({"method": "PUT"}), "standard/2"),
        (
            json!({"format": "cloudevents", "signatures": github}),
            "cloudevents/2",
        ),
    ] {
        let (made, path) = make(&world, &owner, fields.clone()).await;
        assert_eq!(stored(&world).await.0, format, "{fields}");
        assert_eq!(made["format"], format.trim_end_matches("/2"));
        let reset = json!({"method": null, "signatures": null});
        let reset = json(call(&world, &owner, Method::PATCH, &path).json(&reset)).await;
        let (plain, signatures) = stored(&world).await;
        assert_eq!(
            (Some(plain.as_str()), signatures),
            (reset["format"].as_str(), None)
        );
    }
    let past = sqlx::query("update endpoints set method = 'PUT' where format = 'standard'");
    past.execute(world.database())
        .await
        .expect_err("Postgres keeps the rule");
    world.finish().await;
}
