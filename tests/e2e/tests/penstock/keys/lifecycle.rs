//! Keys that are made, listed, replaced and used up.

use std::time::Duration;

use e2e::until;
use reqwest::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::calls::{answer, json, make, request, status, text, tried, until_refused, wrong_fields};
use crate::{setup, two_replicas};

#[tokio::test]
async fn a_key_that_is_replaced_stays_valid_for_the_overlap() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let rotate = async |seconds: u32| {
        let made = make(&world, &owner, &json!({"name": "a", "scopes": ["ingest"]})).await;
        let key = text(&made, "key").to_owned();
        assert_eq!(tried(&world, 1, &key).await, 404);
        let path = format!("/v1/keys/{}/rotate", text(&made, "id"));
        let body = json!({"overlap_seconds": seconds});
        let rotate = || request(&world, 0, Method::POST, &path, &owner).json(&body);
        let new = json(rotate()).await;
        assert_eq!((&new["name"], &new["scopes"]), (&made["name"], &made["scopes"]));
        assert_eq!(status(rotate()).await, 409, "it is replaced already");
        for index in [0, 1] {
            assert_eq!(tried(&world, index, text(&new, "key")).await, 404);
        }
        key
    };
    let long = rotate(3_600).await;
    let short = rotate(1).await;
    let none = rotate(0).await;
    assert_eq!(tried(&world, 0, &none).await, 401);
    for key in [&none, &short] {
        until_refused(&world, 0, key).await;
        until_refused(&world, 1, key).await;
    }
    assert_eq!(tried(&world, 0, &long).await, 404);
    assert_eq!(tried(&world, 1, &long).await, 404);
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_expires_is_replaced_by_one_that_is_valid_as_long() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let date = |value: &Value, field| OffsetDateTime::parse(text(value, field), &Rfc3339).unwrap();
    let lifetime = |key: &Value| date(key, "expires_at") - date(key, "created_at");
    let expires_at = (shared::domain::clock::UnixMicros::now().to_date_time() + Duration::from_secs(7_200))
        .format(&Rfc3339)
        .unwrap();
    let body = json!({"name": "a", "scopes": ["ingest"], "expires_at": expires_at});
    let made = make(&world, &owner, &body).await;
    let path = format!("/v1/keys/{}/rotate", text(&made, "id"));
    let new = json(request(&world, 1, Method::POST, &path, &owner).json(&json!({}))).await;
    let difference = lifetime(&new) - lifetime(&made);
    assert!(difference.abs() < Duration::from_secs(60), "{made} {new}");
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_expires_makes_none_that_outlives_it() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let after = |seconds: u64| {
        let at = shared::domain::clock::UnixMicros::now().to_date_time() + Duration::from_secs(seconds);
        at.format(&Rfc3339).unwrap()
    };
    let date = |key: &Value| OffsetDateTime::parse(text(key, "expires_at"), &Rfc3339).unwrap();
    let scopes = json!(["ingest", "manage"]);
    let expires = json!({"name": "expires", "scopes": scopes, "expires_at": after(3_600)});
    let expires = make(&world, &owner, &expires).await;
    let (maker, id) = (text(&expires, "key"), text(&expires, "id"));

    let endless = make(&world, maker, &json!({"name": "endless", "scopes": scopes})).await;
    let longer = json!({"name": "longer", "scopes": scopes, "expires_at": after(7_200)});
    let longer = make(&world, maker, &longer).await;
    let shorter = json!({"name": "shorter", "scopes": scopes, "expires_at": after(1_800)});
    let shorter = make(&world, maker, &shorter).await;
    assert_eq!([date(&endless), date(&longer)], [date(&expires); 2]);
    assert!(date(&shorter) < date(&expires), "{shorter}");

    let other = make(&world, &owner, &json!({"name": "other", "scopes": scopes})).await;
    let rotate = async |id: &str, body: Value| {
        let path = format!("/v1/keys/{id}/rotate");
        json(request(&world, 0, Method::POST, &path, maker).json(&body)).await
    };
    let rotated = rotate(text(&other, "id"), json!({})).await;
    let asked = json!({"expires_at": after(7_200), "overlap_seconds": 60});
    let itself = rotate(id, asked).await;
    assert_eq!([date(&rotated), date(&itself)], [date(&expires); 2]);
    world.finish().await;
}

#[tokio::test]
async fn a_key_is_refused_once_it_has_expired() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let soon = shared::domain::clock::UnixMicros::now().to_date_time() + Duration::from_secs(5);
    let body = json!({"name": "a", "scopes": ["ingest"], "expires_at": soon.format(&Rfc3339).unwrap()});
    let made = make(&world, &owner, &body).await;
    for index in [0, 1] {
        until_refused(&world, index, text(&made, "key")).await;
    }
    let expired = request(&world, 0, Method::GET, "/v1/keys", text(&made, "key"));
    insta::assert_snapshot!(answer(expired).await, @r#"
    401 Unauthorized
    content-type: application/problem+json
    www-authenticate: Bearer

    {"type":"about:blank","title":"Unauthorized","status":401,"detail":"the API key has expired"}
    "#);
    let path = format!("/v1/keys/{}/rotate", text(&made, "id"));
    insta::assert_snapshot!(answer(request(&world, 0, Method::POST, &path, &owner).json(&json!({}))).await, @r#"
    409 Conflict
    content-type: application/problem+json

    {"type":"about:blank","title":"Conflict","status":409,"detail":"the key is revoked, expired or replaced already"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn a_key_gives_no_scope_that_it_lacks() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let full = make(
        &world,
        &owner,
        &json!({"name": "full", "scopes": ["ingest", "manage"]}),
    )
    .await;
    let manager = make(&world, &owner, &json!({"name": "m", "scopes": ["manage"]})).await;
    let manager = text(&manager, "key");
    let body = json!({"name": "x", "scopes": ["ingest"]});
    let create = request(&world, 0, Method::POST, "/v1/keys", manager).json(&body);
    insta::assert_snapshot!(answer(create).await, @r#"
    403 Forbidden
    content-type: application/problem+json

    {"type":"about:blank","title":"Forbidden","status":403,"detail":"the API key cannot give the scope `ingest`, which it lacks"}
    "#);
    let path = format!("/v1/keys/{}/rotate", text(&full, "id"));
    let rotate = request(&world, 0, Method::POST, &path, manager).json(&json!({}));
    assert_eq!(status(rotate).await, 403, "the new key would have the scope");
    assert_eq!(
        tried(&world, 0, text(&full, "key")).await,
        404,
        "nothing happened to the old one"
    );
    let same = request(&world, 0, Method::POST, "/v1/keys", manager);
    assert_eq!(
        status(same.json(&json!({"name": "x", "scopes": ["manage"]}))).await,
        201
    );
    let ingest = make(&world, &owner, &json!({"name": "i", "scopes": ["ingest"]})).await;
    for (method, path) in [
        (Method::GET, "/v1/keys"),
        (Method::DELETE, "/v1/keys/aaaaaaaaaaaaaaaa"),
    ] {
        let refused = request(&world, 0, method, path, text(&ingest, "key"));
        assert_eq!(status(refused).await, 403);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_wrong_field_is_named() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let create = |body: Value| request(&world, 0, Method::POST, "/v1/keys", &owner).json(&body);
    let wrong = json!({"name": "", "scopes": [], "expires_at": "2020-01-01T00:00:00Z"});
    insta::assert_snapshot!(answer(create(wrong)).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: name, scopes, expires_at","errors":[{"field":"name","detail":"must have 1 to 200 characters, none of them NUL"},{"field":"scopes","detail":"must name at least one scope"},{"field":"expires_at","detail":"must be in the future"}]}
    "#);
    insta::assert_snapshot!(answer(create(json!({"name": "x"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: scopes","errors":[{"field":"scopes","detail":"is missing"}]}
    "#);
    let by_place = create(json!(["x", ["manage"], null, null]));
    assert_eq!(wrong_fields(by_place).await, "body: must be a JSON object");
    insta::assert_snapshot!(answer(create(json!({"name": "x", "scopes": ["fly"]}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: scopes[0]","errors":[{"field":"scopes[0]","detail":"unknown variant `fly`, expected `ingest` or `manage` at line 1 column 27"}]}
    "#);
    let rotate = request(
        &world,
        0,
        Method::POST,
        "/v1/keys/aaaaaaaaaaaaaaaa/rotate",
        &owner,
    );
    insta::assert_snapshot!(answer(rotate.json(&json!({"overlap_seconds": 2_592_001}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: overlap_seconds","errors":[{"field":"overlap_seconds","detail":"must be 0 to 2592000"}]}
    "#);
    let list = request(&world, 0, Method::GET, "/v1/keys?limit=0", &owner);
    insta::assert_snapshot!(answer(list).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: limit","errors":[{"field":"limit","detail":"must be 1 to 100"}]}
    "#);
    let list = request(&world, 0, Method::GET, "/v1/keys?cursor=x", &owner);
    insta::assert_snapshot!(answer(list).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: cursor","errors":[{"field":"cursor","detail":"is not a `next_cursor`"}]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn keys_are_listed_in_pages_and_never_with_their_secret() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let mut made = vec![owner[8..24].to_owned()];
    for name in ["b", "c", "d", "e"] {
        let key = make(&world, &owner, &json!({"name": name, "scopes": ["ingest"]})).await;
        made.insert(0, text(&key, "id").to_owned());
    }
    let stranger = world.organization().await.key;
    let (mut listed, mut path) = (Vec::new(), "/v1/keys?limit=2".to_owned());
    loop {
        let response = request(&world, 1, Method::GET, &path, &owner)
            .send()
            .await
            .unwrap();
        let link = response
            .headers()
            .get("link")
            .map(|link| link.to_str().unwrap().to_owned());
        let page: Value = response.json().await.unwrap();
        let page_text = page.to_string();
        assert!(
            !page_text.contains("pk_live_") && !page_text.contains("argon2"),
            "{page}"
        );
        for key in page["data"].as_array().unwrap() {
            listed.push(text(key, "id").to_owned());
        }
        assert!(listed.len() <= made.len(), "{listed:?} of {made:?}");
        let Some(next) = page["next_cursor"].as_str() else {
            assert_eq!(link, None);
            break;
        };
        let next = format!("/v1/keys?limit=2&cursor={next}");
        assert_eq!(link, Some(format!("<{next}>; rel=\"next\"")));
        path = next;
    }
    assert_eq!(listed, made);
    let foreign = json(request(&world, 1, Method::GET, "/v1/keys", &stranger)).await;
    assert_eq!(foreign["data"].as_array().unwrap().len(), 1);
    world.finish().await;
}

#[tokio::test]
async fn the_last_use_of_a_key_is_written_down() {
    let world = setup()
        .replicas(2, 0)
        .ingest_env("KEY_USE_INTERVAL", "50ms")
        .start()
        .await;
    let owner = world.organization().await.key;
    let used = make(&world, &owner, &json!({"name": "used", "scopes": ["ingest"]})).await;
    make(&world, &owner, &json!({"name": "unused", "scopes": ["ingest"]})).await;
    let before = shared::domain::clock::UnixMicros::now().to_date_time() - Duration::from_secs(5);
    tried(&world, 1, text(&used, "key")).await;
    let keys = until("the use to be written", async || {
        let keys = json(request(&world, 0, Method::GET, "/v1/keys", &owner)).await;
        if keys["data"][1]["last_used_at"].is_null() {
            Err(keys.to_string())
        } else {
            Ok(keys)
        }
    })
    .await;
    let at = OffsetDateTime::parse(text(&keys["data"][1], "last_used_at"), &Rfc3339).unwrap();
    assert!(at > before, "{keys}");
    assert!(keys["data"][0]["last_used_at"].is_null(), "{keys}");
    world.finish().await;
}
