//! Compressed request bodies.

use std::io::Write as _;

use e2e::{Producer, transcript_with};
use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::calls::answer;
use crate::setup;

const MAX_EVENT_BYTES: usize = 256 * 1024;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data).expect("a Vec can be written");
    encoder.finish().expect("a Vec can be written")
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).expect("a Vec can be written")
}

type Compress = fn(&[u8]) -> Vec<u8>;

/// How a client names a coding, and what it does.
const CODINGS: [(&str, Compress); 3] = [
    ("gzip", gzip),
    ("ZSTD", zstd),
    ("gzip, zstd", |data| zstd(&gzip(data))),
];

fn post(producer: &Producer, path: &str, content_type: &str, coding: &str, body: Vec<u8>) -> RequestBuilder {
    let request = producer.post(path).header("content-type", content_type);
    request.header("content-encoding", coding).body(body)
}

#[tokio::test]
async fn compressed_bodies_are_taken_wherever_events_come_in() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    let event = r#"{"type":"a","data":{"n": 1e400}}"#;
    let legacy = r#"{"type":"a","payload":{"n": 1e400}}"#;
    let cloudevent = |id: &str| {
        format!(r#"{{"specversion":"1.0","id":"{id}","source":"/s","type":"a","data":{{"n": 1e400}}}}"#)
    };
    let mut sent = 0;
    for (coding, compress) in CODINGS {
        let (one, two) = (cloudevent(coding), cloudevent(&format!("{coding}-2")));
        for (path, content_type, body, events) in [
            ("/v1/events", "application/json", event.to_owned(), 1),
            ("/v1/events/", "application/json", event.to_owned(), 1),
            ("/api/events", "application/json", legacy.to_owned(), 1),
            ("/v1/events", "application/cloudevents+json", one, 1),
            (
                "/v1/events/batch",
                "application/json",
                format!("[{event},{event}]"),
                2,
            ),
            (
                "/v1/events/batch",
                "application/x-ndjson",
                format!("{event}\n{event}\n"),
                2,
            ),
            (
                "/v1/events/batch",
                "application/cloudevents-batch+json",
                format!("[{two}]"),
                1,
            ),
        ] {
            let request = post(&producer, path, content_type, coding, compress(body.as_bytes()));
            let answer = request.send().await.expect("ingest-api answers");
            assert_eq!(answer.status(), 202, "{path} {content_type} {coding}");
            sent += events;
        }
    }
    receiver.wait_for(sent).await;
    world.settle().await;
    for webhook in receiver.webhooks() {
        let body = String::from_utf8_lossy(&webhook.body);
        assert!(body.ends_with(r#""data":{"n": 1e400}}"#), "{body}");
    }
    world.finish().await;
}

#[tokio::test]
async fn limits_count_what_comes_out_and_other_codings_are_named() {
    let world = setup().start().await;
    let producer = world.producer(&world.organization().await);
    let event = |bytes: usize| {
        let envelope = r#"{"type":"a","data":""}"#;
        let data = "x".repeat(bytes - envelope.len());
        envelope.replace("\"\"", &format!("\"{data}\""))
    };
    let single =
        |coding: &str, body: Vec<u8>| post(&producer, "/v1/events", "application/json", coding, body);
    for (coding, compress) in CODINGS {
        let fits = single(coding, compress(event(MAX_EVENT_BYTES).as_bytes()));
        assert_eq!(fits.send().await.unwrap().status(), 202, "{coding}");
        let larger = single(coding, compress(event(MAX_EVENT_BYTES + 1).as_bytes()));
        let refused = answer(larger).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused, @r#"
            413 Payload Too Large
            content-type: application/problem+json

            {"type":"about:blank","title":"Payload Too Large","status":413,"detail":"the body is larger than 262144 bytes"}
            "#);
        }
    }
    let spaces = post(
        &producer,
        "/v1/events/batch",
        "application/json",
        "gzip",
        gzip(&vec![b' '; 4_000_000]),
    );
    insta::assert_snapshot!(answer(spaces).await, @r#"
    413 Payload Too Large
    content-type: application/problem+json

    {"type":"about:blank","title":"Payload Too Large","status":413,"detail":"the body grows to more than 500 times its size when it is decompressed"}
    "#);
    for coding in ["br", "deflate", "gzip, br"] {
        let answer = single(coding, gzip(b"{}")).send().await.unwrap();
        let refused = transcript_with(answer, &["accept-encoding"]).await;
        insta::allow_duplicates! {
            insta::assert_snapshot!(refused, @r#"
            415 Unsupported Media Type
            content-type: application/problem+json
            accept-encoding: gzip, zstd

            {"type":"about:blank","title":"Unsupported Media Type","status":415,"detail":"of content codings, send gzip or zstd, at most two of them, or none"}
            "#);
        }
    }
    let whole = gzip(event(100).as_bytes());
    let cut = single("gzip", whole[..whole.len() - 1].to_vec());
    assert_eq!(cut.send().await.unwrap().status(), 400);
    for coding in ["Identity", "identity, IDENTITY"] {
        let plain = single(coding, event(100).into_bytes());
        assert_eq!(plain.send().await.unwrap().status(), 202);
    }
    // A form, and a request whose client compresses whatever it has, which is nothing.
    let endpoint = json!({"kind": "pull"}).to_string();
    let endpoint = post(
        &producer,
        "/v1/endpoints",
        "application/json",
        "gzip",
        gzip(endpoint.as_bytes()),
    );
    let endpoint: Value = endpoint.send().await.unwrap().json().await.unwrap();
    let test = format!(
        "/v1/endpoints/{}/test",
        endpoint["id"].as_str().expect("it has an id")
    );
    let empty = post(&producer, &test, "application/json", "gzip", Vec::new());
    assert_eq!(empty.send().await.unwrap().status(), 202);
    world.finish().await;
}
