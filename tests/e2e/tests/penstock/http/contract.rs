//! What errors look like to a producer.

use e2e::{Producer, World, transcript_with};
use futures_util::future::join_all;
use serde_json::json;

use crate::calls::{answer, same_answer};
use crate::world;

async fn producer(world: &World) -> Producer {
    world.producer(&world.organization().await)
}

#[tokio::test]
async fn requests_without_a_valid_key_are_refused() {
    let world = world().await;
    let post = || world.http().post(world.url("/v1/events")).body("{}");
    let good = world.organization().await.key;
    let requests = [
        post(),
        post().basic_auth("user", Some(&good)),
        post().bearer_auth(""),
    ];
    insta::assert_snapshot!(same_answer(requests).await, @r#"
    401 Unauthorized
    content-type: application/problem+json
    www-authenticate: Bearer

    {"type":"about:blank","title":"Unauthorized","status":401,"detail":"send an API key as `Authorization: Bearer …` or `X-API-Key: …`"}
    "#);

    let unknown = good.replacen("_live_", "_live_aaaaaaaaaaaaaaaa", 1);
    let unknown = unknown.replacen(&good[8..24], "", 1);
    let (rest, last) = good.split_at(good.len() - 1);
    let wrong_secret = format!("{rest}{}", if last == "a" { "b" } else { "a" });
    let requests = [
        post().bearer_auth("not a key"),
        post().bearer_auth(unknown),
        post().bearer_auth(wrong_secret),
        post().header("x-api-key", "x"),
    ];
    insta::assert_snapshot!(same_answer(requests).await, @r#"
    401 Unauthorized
    content-type: application/problem+json
    www-authenticate: Bearer

    {"type":"about:blank","title":"Unauthorized","status":401,"detail":"the API key is not valid"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn unknown_paths_and_methods_are_refused() {
    let world = world().await;
    let http = world.http();
    insta::assert_snapshot!(answer(http.get(world.url("/v1/nothing"))).await, @r#"
    404 Not Found
    content-type: application/problem+json

    {"type":"about:blank","title":"Not Found","status":404,"detail":"there is nothing here under this path"}
    "#);
    insta::assert_snapshot!(answer(http.delete(world.url("/v1/events"))).await, @r#"
    405 Method Not Allowed
    content-type: application/problem+json
    allow: OPTIONS,POST,GET,HEAD

    {"type":"about:blank","title":"Method Not Allowed","status":405,"detail":"this path does not know this method"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_with_and_without_a_length() {
    let world = world().await;
    let producer = producer(&world).await;
    let body = format!(r#"{{"type":"a","data":"{}"}}"#, "x".repeat(300 * 1024));
    let chunks: Vec<_> = body
        .as_bytes()
        .chunks(1_000)
        .map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec()))
        .collect();
    let chunked = reqwest::Body::wrap_stream(futures_util::stream::iter(chunks));
    let requests = [reqwest::Body::from(body), chunked].map(|body| producer.post_event(body));
    insta::assert_snapshot!(same_answer(requests).await, @r#"
    413 Payload Too Large
    content-type: application/problem+json

    {"type":"about:blank","title":"Payload Too Large","status":413,"detail":"the body is larger than 262144 bytes"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_is_not_json_is_refused() {
    let world = world().await;
    let producer = producer(&world).await;
    let text = producer
        .post("/v1/events")
        .header("content-type", "text/plain")
        .body("{}");
    let untyped = producer.post("/v1/events").body("{}");
    insta::assert_snapshot!(same_answer([text, untyped]).await, @r#"
    415 Unsupported Media Type
    content-type: application/problem+json

    {"type":"about:blank","title":"Unsupported Media Type","status":415,"detail":"send `Content-Type: application/json`, or a CloudEvent"}
    "#);
    let compressed = producer.post_event("{}").header("content-encoding", "br");
    insta::assert_snapshot!(answer(compressed).await, @r#"
    415 Unsupported Media Type
    content-type: application/problem+json

    {"type":"about:blank","title":"Unsupported Media Type","status":415,"detail":"of content codings, send gzip or zstd, at most two of them, or none"}
    "#);
    let cut = producer.post_event(r#"{"type":"a","data":"#);
    insta::assert_snapshot!(answer(cut).await, @r#"
    400 Bad Request
    content-type: application/problem+json

    {"type":"about:blank","title":"Bad Request","status":400,"detail":"the body is not valid JSON: EOF while parsing a value at line 1 column 19"}
    "#);
    let not_utf8 = producer.post_event(vec![b'"', 0xff, b'"']);
    insta::assert_snapshot!(answer(not_utf8).await, @r#"
    400 Bad Request
    content-type: application/problem+json

    {"type":"about:blank","title":"Bad Request","status":400,"detail":"the body is not valid JSON: invalid unicode code point at line 1 column 2"}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_is_no_event_is_refused_with_every_wrong_field() {
    let world = world().await;
    let producer = producer(&world).await;
    let empty = producer.post_event("{}");
    insta::assert_snapshot!(answer(empty).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type, data","errors":[{"field":"type","detail":"is missing"},{"field":"data","detail":"is missing"}]}
    "#);
    let two_wrong = producer.post_event(r#"{"type":7,"data":1,"kind":"b"}"#);
    insta::assert_snapshot!(answer(two_wrong).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: kind, type","errors":[{"field":"kind","detail":"is not a field of an event"},{"field":"type","detail":"must be a string"}]}
    "#);
    let long_key = producer.post_event(format!(
        r#"{{"type":"","data":1,"idempotency_key":"{}"}}"#,
        "k".repeat(256)
    ));
    insta::assert_snapshot!(answer(long_key).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type, idempotency_key","errors":[{"field":"type","detail":"must not be empty"},{"field":"idempotency_key","detail":"must not be longer than 255 bytes"}]}
    "#);
    let open_quote = producer
        .post_event(r#"{"type":"a","data":1}"#)
        .header("idempotency-key", "\"open");
    insta::assert_snapshot!(answer(open_quote).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: Idempotency-Key","errors":[{"field":"Idempotency-Key","detail":"a quote or backslash is not closed or not escaped"}]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn an_organisation_past_its_rate_limit_is_told_when_to_come_back() {
    let world = world().await;
    let limited = json!({"name": "limited", "tier": "free", "rate_limit_per_minute": 2});
    let producer = world.producer(&world.organization_with(&limited).await);
    // All at once, because the answers tell of seconds.
    let answers = (0..3).map(async |_| {
        // A body that is refused, because an accepted one is answered with another id each time.
        let response = producer.post_event("{}").send().await.unwrap();
        transcript_with(response, &["ratelimit-policy", "ratelimit"]).await
    });
    let mut answers = join_all(answers).await;
    answers.sort_unstable();
    insta::assert_snapshot!(answers[0], @r#"
    422 Unprocessable Entity
    content-type: application/problem+json
    ratelimit-policy: "default";q=2;w=60
    ratelimit: "default";r=0;t=60

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type, data","errors":[{"field":"type","detail":"is missing"},{"field":"data","detail":"is missing"}]}
    "#);
    insta::assert_snapshot!(answers[1], @r#"
    422 Unprocessable Entity
    content-type: application/problem+json
    ratelimit-policy: "default";q=2;w=60
    ratelimit: "default";r=1;t=30

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: type, data","errors":[{"field":"type","detail":"is missing"},{"field":"data","detail":"is missing"}]}
    "#);
    insta::assert_snapshot!(answers[2], @r#"
    429 Too Many Requests
    content-type: application/problem+json
    retry-after: 30
    ratelimit-policy: "default";q=2;w=60
    ratelimit: "default";r=0;t=30

    {"type":"https://iana.org/assignments/http-problem-types#quota-exceeded","title":"Too Many Requests","status":429,"detail":"the rate limit is used up; try again in 30 s"}
    "#);
    world.finish().await;
}
