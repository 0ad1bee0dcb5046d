//! Requests at the edges of HTTP, byte by byte, and floods of frames that belong to no request.

use e2e::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::http::hostile::connect;
use crate::world;

/// Everything that comes back until the connection is closed.
async fn said(world: &World, request: &str) -> String {
    let mut connection = connect(world).await;
    connection
        .write_all(request.as_bytes())
        .await
        .expect("it is open");
    let mut answer = Vec::new();
    let read = tokio::time::timeout(e2e::DEADLINE, connection.read_to_end(&mut answer)).await;
    read.expect("the connection is closed after the answer")
        .expect("an answer comes before the end");
    String::from_utf8(answer).expect("an answer is text")
}

/// Each request gets this status, and a problem that says it too.
async fn each_is_answered(world: &World, status: u16, heads: &[String]) {
    for head in heads {
        let answer = said(world, head).await;
        let wanted = format!("HTTP/1.1 {status} ");
        assert!(answer.starts_with(&wanted), "{head:?} is answered {answer}");
        let problem = answer.contains("content-type: application/problem+json");
        let says_it = answer.contains(&format!("\"status\":{status}"));
        assert!(problem && says_it, "{head:?} is answered {answer}");
    }
}

#[tokio::test]
async fn requests_that_break_the_rules_of_http_are_refused_with_a_problem() {
    let world = world().await;
    let key = world.organization().await.key;
    let line = "POST /v1/events HTTP/1.1\r\n";
    let rest = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
    let length = "Content-Length: 21\r\n\r\n{\"type\":\"a\",\"data\":1}";
    let chunks = "\r\n15\r\n{\"type\":\"a\",\"data\":1}\r\n0\r\n\r\n";
    let with = |headers: &str, body: &str| format!("{line}{headers}{rest}{body}");
    let with_host = |headers: &str, body: &str| with(&format!("Host: x\r\n{headers}"), body);
    let malformed = [
        with("", length),
        with("Host: x\r\nHost: x\r\n", length),
        with("Host: x\r\nHost: y\r\n", length),
        with("Host: a b\r\n", length),
        with("Host: user@x\r\n", length),
        with_host("Transfer-Encoding: chunked, chunked\r\n", chunks),
        with_host(
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
            chunks,
        ),
        with_host("Transfer-Encoding: gzip\r\n", chunks),
        with_host("Content-Type: text/plain\r\n", length),
        with_host("Authorization: Bearer other\r\n", length),
        with_host("Content-Length: 20\r\n", length),
        with_host("Content-Length: +21\r\n", length),
        with_host("X-Space : 1\r\n", length),
        with_host("X-Folded: 1\r\n 2\r\n", length),
        with_host("Transfer-Encoding: chunked\r\n", chunks).replacen("HTTP/1.1", "HTTP/1.0", 1),
        "GET /\r\n\r\n".to_owned(),
    ];
    each_is_answered(&world, 400, &malformed).await;
    let unknown_codings = [
        "gzip, chunked",
        "identity, chunked",
        "gzip\r\nTransfer-Encoding: chunked",
    ]
    .map(|coding| with_host(&format!("Transfer-Encoding: {coding}\r\n"), chunks));
    each_is_answered(&world, 501, &unknown_codings).await;
    let unknown_expectation = with_host("Expect: 200-ok\r\n", length);
    each_is_answered(&world, 417, &[unknown_expectation]).await;
    let large = with_host(&format!("X-Large: {}\r\n", "x".repeat(70_000)), length);
    each_is_answered(&world, 431, &[large]).await;
    let old = said(&world, "GET /healthz HTTP/1.0\r\n\r\n").await;
    assert!(
        old.lines().next().is_some_and(|line| line.ends_with(" 200 OK")),
        "{old}"
    );
    world.finish().await;
}

#[tokio::test]
async fn who_asks_before_sending_a_body_that_is_too_large_is_told_so_at_once() {
    let world = world().await;
    let key = world.organization().await.key;
    for (path, limit) in [
        ("/v1/events", 256 << 10),
        ("/v1/events/batch", 4 << 20),
        ("/v1/endpoints", 64 << 10),
    ] {
        let head = |length| {
            format!(
                "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nExpect: 100-continue\r\n\
                 Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
            )
        };
        let answer = said(&world, &head(limit + 1)).await;
        assert!(answer.starts_with("HTTP/1.1 413 "), "{path}: {answer}");
        let mut connection = connect(&world).await;
        connection.write_all(head(limit).as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        connection.read_exact(&mut interim).await.unwrap();
        assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n", "{path}");
    }
    world.finish().await;
}

/// The beginning of an HTTP/2 connection.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// More frames than anybody needs.
const FRAMES: usize = 200_000;

/// Sends a frame again and again, and reads what comes back, until the connection is closed.
async fn flood(world: &World, frame: &[u8]) {
    let (mut reader, mut writer) = connect(world).await.into_split();
    writer.write_all(PREFACE).await.expect("it is open");
    let piece = frame.repeat(100);
    let sending = async {
        for _ in 0..FRAMES / 100 {
            if writer.write_all(&piece).await.is_err() {
                return;
            }
        }
    };
    let reading = async {
        let mut bytes = vec![0; 64 << 10];
        while reader.read(&mut bytes).await.is_ok_and(|length| length > 0) {}
    };
    let both = async { tokio::join!(sending, reading) };
    let closed = tokio::time::timeout(e2e::DEADLINE, both).await;
    closed.unwrap_or_else(|_| panic!("frames of type {} do not end their connection", frame[3]));
}

#[tokio::test]
async fn a_flood_of_frames_that_belong_to_no_request_ends_its_connection() {
    const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0penstock";
    const PING_ANSWER: &[u8] = b"\0\0\x08\x06\x01\0\0\0\0penstock";
    const SETTINGS: &[u8] = b"\0\0\x06\x04\0\0\0\0\0\0\x04\0\x01\0\0";
    const WINDOW_UPDATE: &[u8] = b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01";
    const PRIORITY: &[u8] = b"\0\0\x05\x02\0\0\0\0\x01\0\0\0\0\x10";
    const UNKNOWN: &[u8] = b"\0\0\x01\xfa\0\0\0\0\0x";
    let world = world().await;
    let floods = [PING, PING_ANSWER, SETTINGS, WINDOW_UPDATE, PRIORITY, UNKNOWN];
    for frame in floods {
        flood(&world, frame).await;
    }
    // It would be closed later too, for want of a request: these are ended because they are floods. h2 ends some itself.
    let ended = world.metric(0, "penstock_http2_floods_total").await;
    assert!(ended >= 5, "{ended} of {}", floods.len());
    let health = world.http().get(world.url("/healthz")).send().await.unwrap();
    assert!(health.status().is_success());
    world.finish().await;
}
