//! Connections that say little or nothing.

use std::time::{Duration, Instant};

use e2e::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::setup;

/// What `HEADER_TIMEOUT` and `BODY_TIMEOUT` are set to.
const TIMEOUT: Duration = Duration::from_secs(1);

async fn world() -> World {
    let setup = setup().replicas(1, 0);
    let setup = setup
        .ingest_env("HEADER_TIMEOUT", "1s")
        .ingest_env("BODY_TIMEOUT", "1s");
    setup.start().await
}

/// Says something to ingest-api, waits until it closes the connection, and returns what it has said.
async fn say(world: &World, words: &str) -> String {
    let url = world.url("");
    let connection = TcpStream::connect(url.trim_start_matches("http://")).await;
    let mut connection = connection.expect("ingest-api accepts connections");
    let said = connection.write_all(words.as_bytes()).await;
    said.expect("the connection is open");
    let begun = Instant::now();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(TIMEOUT * 5, connection.read_to_end(&mut answer)).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(
        closed.is_ok(),
        "still open {:?} after {words:?}: {answer:?}",
        begun.elapsed()
    );
    assert!(
        begun.elapsed() >= TIMEOUT.mul_f32(0.9),
        "{:?} after {words:?}: {answer:?}",
        begun.elapsed()
    );
    answer
}

#[tokio::test]
async fn a_connection_that_does_not_finish_its_headers_is_closed() {
    let world = world().await;
    assert_eq!(say(&world, "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-").await, "");
    world.finish().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_is_closed() {
    let world = world().await;
    assert_eq!(say(&world, "").await, "");
    assert_eq!(say(&world, "PRI * HTTP/2.0\r\n").await, "");
    world.finish().await;
}

#[tokio::test]
async fn a_connection_that_sends_no_second_request_is_closed() {
    let world = world().await;
    let answer = say(&world, "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_does_not_come_is_answered_408() {
    let world = world().await;
    let organization = world.organization().await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n",
        organization.key
    );
    let announced = format!("{head}Content-Length: 100\r\n\r\n{{\"type\":");
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n8\r\n{{\"type\":\r\n");
    for request in [announced, chunked] {
        let answer = say(&world, &request).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(
            answer.contains("content-type: application/problem+json"),
            "{answer}"
        );
    }
    world.finish().await;
}
