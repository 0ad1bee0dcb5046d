//! Connections that say little or nothing, or too much, or are too many.

mod bodies;

use std::time::{Duration, Instant};

use e2e::{DEADLINE, World};
use futures_util::future::join_all;
use reqwest::StatusCode;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::calls::address;
use crate::setup;

/// What a timeout is set to.
const TIMEOUT: Duration = Duration::from_secs(1);

async fn world() -> World {
    let setup = setup().replicas(1, 0);
    let setup = setup
        .ingest_env("HEADER_TIMEOUT", "1s")
        .ingest_env("BODY_TIMEOUT", "1s");
    setup.start().await
}

pub(crate) async fn connect(world: &World) -> TcpStream {
    let connection = TcpStream::connect(address(world, 0)).await;
    connection.expect("ingest-api's socket accepts connections")
}

/// Says something to ingest-api, waits until it closes the connection, and returns what it has said.
async fn say(world: &World, words: &str) -> String {
    let begun = Instant::now();
    let mut connection = connect(world).await;
    let said = connection.write_all(words.as_bytes()).await;
    said.expect("the connection is open");
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(TIMEOUT * 9, connection.read_to_end(&mut answer)).await;
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

const REQUEST: &str = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn a_connection_that_sends_no_second_request_is_closed() {
    let setup = setup().replicas(1, 0).ingest_env("IDLE_TIMEOUT", "1s");
    let world = setup.start().await;
    let answer = say(&world, REQUEST).await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    world.finish().await;
}

#[tokio::test]
async fn a_connection_may_be_idle_for_longer_than_it_may_send_headers() {
    let world = world().await;
    let mut connection = connect(&world).await;
    for _ in 0..2 {
        connection
            .write_all(REQUEST.as_bytes())
            .await
            .expect("it is open");
        let mut answer = [0; 1_024];
        let length = connection.read(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer[..length]);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        tokio::time::sleep(TIMEOUT * 2).await;
    }
    let (head, begun) = (&REQUEST.as_bytes()[..20], Instant::now());
    connection.write_all(head).await.expect("it is open");
    assert_eq!(hear(connection).await, "");
    let taken = begun.elapsed();
    assert!(
        (TIMEOUT.mul_f32(0.9)..TIMEOUT * 9).contains(&taken),
        "closed after {taken:?}"
    );
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

/// What ingest-api says on a connection until it closes it.
pub(crate) async fn hear(mut connection: TcpStream) -> String {
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(DEADLINE, connection.read_to_end(&mut answer)).await;
    // It may reset a connection on which it has not read everything.
    let _ = closed.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// A connection that is being served for as long as it is open: ingest-api waits for the body of its request.
async fn occupy(world: &World, key: &str) -> TcpStream {
    const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
    let mut connection = connect(world).await;
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"
    );
    connection.write_all(head.as_bytes()).await.expect("it is open");
    let mut answer = [0; GO_ON.len()];
    let answered = tokio::time::timeout(DEADLINE, connection.read_exact(&mut answer)).await;
    answered.expect("it is served").expect("it stays open");
    assert_eq!(answer, GO_ON, "{}", String::from_utf8_lossy(&answer));
    connection
}

#[tokio::test]
async fn connections_beyond_the_cap_wait_until_others_close() {
    const CAP: usize = 3;
    let setup = setup().replicas(1, 0).ingest_env("IDLE_TIMEOUT", "1s");
    let world = setup
        .ingest_env("MAX_CONNECTIONS", &CAP.to_string())
        .start()
        .await;
    let key = world.organization().await.key;
    // Those that the harness has left open are closed after `IDLE_TIMEOUT`.
    let mut served = join_all((0..CAP).map(|_| occupy(&world, &key))).await;
    let mut waiting = Vec::new();
    for _ in 0..CAP {
        let mut connection = connect(&world).await;
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        connection.write_all(request).await.expect("it is open");
        waiting.push(connection);
    }
    // Long enough for a place that an idle connection has left.
    let peeks = waiting.iter().map(async |connection| {
        let mut byte = [0];
        let peek = tokio::time::timeout(TIMEOUT * 3 / 2, connection.peek(&mut byte)).await;
        assert!(peek.is_err(), "something was said beyond the cap");
    });
    join_all(peeks).await;
    assert_eq!(
        world.metric(0, "penstock_key_forgeries_total").await,
        0,
        "metrics are served"
    );
    drop(served.pop());
    for answer in join_all(waiting.into_iter().map(hear)).await {
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    drop(served);
    world.finish().await;
}

#[tokio::test]
async fn a_request_whose_head_is_too_large_is_refused_and_the_next_is_served() {
    let world = setup().replicas(1, 0).start().await;
    let get = |path: &str, headers: &str| format!("GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    let header = |length| format!("X-Header: {}\r\n", "x".repeat(length));
    let fill = |length| "x".repeat(length);
    let huge = [
        get("/healthz", &header(200_000)),
        get("/healthz", &header(1_000).repeat(90)),
        get("/healthz", "X-Many: x\r\n".repeat(101).as_str()),
        get(&format!("/healthz?{}", fill(200_000)), ""),
    ];
    for request in &huge {
        let mut connection = connect(&world).await;
        // It may be closed before everything is said.
        let _ = connection.write_all(request.as_bytes()).await;
        let answer = hear(connection).await;
        let refused = ["HTTP/1.1 431", "HTTP/1.1 414"];
        assert!(
            answer.is_empty() || refused.iter().any(|refused| answer.starts_with(refused)),
            "{answer}"
        );
    }
    let large = [
        get("/healthz", &header(60_000)),
        get("/healthz", "X-Many: x\r\n".repeat(98).as_str()),
        get(&format!("/healthz?{}", fill(60_000)), ""),
    ];
    for request in large {
        let mut connection = connect(&world).await;
        connection
            .write_all(request.as_bytes())
            .await
            .expect("it is open");
        let mut answer = [0; 12];
        connection.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
    }
    world.finish().await;
}

#[tokio::test]
async fn headers_that_are_too_large_are_refused_over_http_2() {
    let world = setup().replicas(1, 0).start().await;
    let http = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .tls_certs_only([])
        .build()
        .unwrap();
    let get = |length| {
        http.get(world.url("/healthz"))
            .header("x-header", "x".repeat(length))
    };
    let large = get(10_000).send().await.unwrap();
    assert_eq!(large.status(), StatusCode::OK);
    let huge = get(80_000).send().await.unwrap();
    assert_eq!(huge.status(), StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE);
    let flood = get(1_000_000).send().await;
    assert!(flood.is_err(), "the connection is ended: {flood:?}");
    assert_eq!(get(1).send().await.unwrap().status(), StatusCode::OK);
    world.finish().await;
}
