//! Answers that other clients read, however odd.

use std::time::Duration;

use e2e::{Event, RawReceiver, read_request};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::world;

/// What curl and Python's `http.client` read as a status of 200; Node reads some of it.
const ODD: &[(&str, &str)] = &[
    (
        "folded",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\tc\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "folded.first",
        "HTTP/1.1 200 OK\r\n x: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "folded.nothing",
        "HTTP/1.1 200 OK\r\nx:\r\n \r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "space.before.colon",
        "HTTP/1.1 200 OK\r\nx : a\r\nContent-Length : 0\r\n\r\n",
    ),
    (
        "tab.before.colon",
        "HTTP/1.1 200 OK\r\nx\t: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "no.header",
        "HTTP/1.1 200 OK\r\nthis is none\r\nContent-Length: 0\r\n\r\n",
    ),
    ("no.name", "HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n"),
    (
        "name.with.space",
        "HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "name.not.ascii",
        "HTTP/1.1 200 OK\r\né(): a\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "value.not.ascii",
        "HTTP/1.1 200 OK\r\nx: é\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "value.control",
        "HTTP/1.1 200 OK\r\nx: a\x01\x00b\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "value.return",
        "HTTP/1.1 200 OK\r\nx: a\rb\r\nContent-Length: 0\r\n\r\n",
    ),
    ("no.reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n"),
    ("reason.empty", "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"),
    (
        "reason.not.ascii",
        "HTTP/1.1 200 Erfüllt\r\nContent-Length: 0\r\n\r\n",
    ),
    (
        "reason.control",
        "HTTP/1.1 200 O\x01K\r\nContent-Length: 0\r\n\r\n",
    ),
    ("two.spaces", "HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n"),
    ("http.1.0", "HTTP/1.0 200 OK\r\n\r\n"),
    ("bare.newline", "HTTP/1.1 200 OK\nx: a\nContent-Length: 0\n\n"),
    (
        "return.return",
        "HTTP/1.1 200 OK\r\r\nContent-Length: 0\r\r\n\r\r\n",
    ),
    ("status.only", "HTTP/1.1 200 OK\r\n\r\n"),
    (
        "length.twice",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
    ),
    ("length.list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok"),
    ("length.plus", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok"),
    ("length.none", "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok"),
    (
        "length.differs",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok",
    ),
    (
        "chunked.and.length",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunked.in.1.0",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "chunk.is.none",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
    ),
    (
        "coding.unknown",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    ),
    (
        "coding.identity",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "body.too.short",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 100\r\n\r\nshort",
    ),
];

#[tokio::test]
async fn odd_answers_that_other_clients_read_keep_their_status() {
    let world = world(None).await;
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let sent = ODD.iter().map(async |&(name, answer)| {
        let receiver = RawReceiver::start("127.0.0.1:0", move |mut stream: TcpStream| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
            while stream.read(&mut [0; 1_024]).await.is_ok_and(|length| length > 0) {}
        })
        .await;
        let fields = json!({"event_types": [name]});
        world.endpoint_at(&organization, &receiver.url(), fields).await;
        let id = producer.send(&Event::new(name, "1")).await;
        (name, id, receiver)
    });
    let mut bad = Vec::new();
    for (name, id, _receiver) in join_all(sent).await {
        let is_done = async || {
            let attempts = world.attempts_of(id).await;
            attempts.into_iter().next().ok_or_else(|| "no attempt".to_owned())
        };
        let attempt = e2e::until_within(Duration::from_secs(60), name, is_done).await;
        if (attempt.outcome.as_str(), attempt.response_status) != ("delivered", Some(200)) {
            bad.push((name, attempt));
        }
    }
    assert!(bad.is_empty(), "{bad:#?}");
    world.finish().await;
}
