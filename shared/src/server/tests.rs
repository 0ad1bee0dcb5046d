mod http2;

use std::sync::atomic::{AtomicU32, Ordering};

use axum::body::Bytes;
use axum::routing::get;
use tokio::io::AsyncReadExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::task::JoinSet;

use super::*;

const DRAIN: Duration = Duration::from_secs(2);

/// Only a failing test takes this long.
const PATIENCE: Duration = Duration::from_secs(10);

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const LARGE_REQUEST: &[u8] = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";

/// Bytes of two answers.
const LARGE: usize = 64 << 20;
const MEDIUM: u32 = 200_000;

/// How many of these a server holds.
type Mediums = Arc<AtomicU32>;

struct Medium {
    bytes: Vec<u8>,
    all: Mediums,
}

impl Medium {
    fn new(all: Mediums) -> Self {
        all.fetch_add(1, Ordering::Relaxed);
        Self {
            bytes: vec![0; MEDIUM as usize],
            all,
        }
    }
}

impl AsRef<[u8]> for Medium {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn start(
    config: HttpServerConfig,
    stop: CancellationToken,
) -> (std::net::SocketAddr, JoinSet<anyhow::Result<()>>) {
    start_counting(config, stop, Mediums::default()).await
}

/// The same, and counts the medium answers that the server holds.
async fn start_counting(
    config: HttpServerConfig,
    stop: CancellationToken,
    mediums: Mediums,
) -> (std::net::SocketAddr, JoinSet<anyhow::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let medium = async move || Bytes::from_owner(Medium::new(mediums.clone()));
    let app = Router::new()
        .route("/large", get(|| async { vec![0; LARGE] }))
        .route("/medium", get(medium))
        .fallback(|| async { "here" });
    let mut server = JoinSet::new();
    server.spawn(serve(listener, app, Limits::new(config), stop, DRAIN));
    (address, server)
}

/// A connection over which something was sent.
async fn ask(address: std::net::SocketAddr, request: &[u8]) -> TcpStream {
    let mut client = TcpStream::connect(address).await.expect("it listens");
    client.write_all(request).await.expect("it is open");
    client
}

/// A new connection gets an answer.
async fn another_is_answered(address: std::net::SocketAddr) {
    let mut client = ask(address, REQUEST).await;
    let mut answer = [0; 15];
    let answered = tokio::time::timeout(PATIENCE, client.read_exact(&mut answer)).await;
    answered.expect("it had its turn").expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200 OK");
}

#[tokio::test]
async fn a_client_that_does_not_take_its_answer_makes_room_for_the_next() {
    let config = HttpServerConfig {
        max_connections: 1,
        header_timeout: Duration::from_millis(200),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let _first = ask(address, LARGE_REQUEST).await;
    another_is_answered(address).await;
}

#[tokio::test]
async fn a_client_that_takes_its_answer_too_slowly_makes_room_for_the_next() {
    let config = HttpServerConfig {
        max_connections: 1,
        header_timeout: Duration::from_secs(2),
        answer_timeout: Duration::from_millis(500),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let mut first = ask(address, LARGE_REQUEST).await;
    let steadily = async {
        let (mut bytes, mut taken) = (vec![0; 64 * 1024], 0);
        while let Ok(length @ 1..) = first.read(&mut bytes).await {
            taken += length;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        taken
    };
    // All of it would take 20 s.
    let taken = tokio::time::timeout(PATIENCE * 6, steadily).await;
    assert!(taken.expect("it ends") < LARGE, "it is not sent to its end");
    another_is_answered(address).await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_however_long_a_head_may_take() {
    let config = HttpServerConfig {
        header_timeout: Duration::from_mins(1),
        idle_timeout: Duration::from_millis(200),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let mut client = ask(address, REQUEST).await;
    let mut answer = String::new();
    let closed = tokio::time::timeout(PATIENCE, client.read_to_string(&mut answer)).await;
    closed.expect("it is closed").expect("an answer, and the end");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test]
async fn after_the_stop_only_the_queue_is_accepted_and_not_for_ever() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let stop = CancellationToken::new();
    stop.cancel();
    let _first = TcpStream::connect(address).await.expect("it listens");
    let accepted = accept(&listener, &stop, pin!(std::future::pending())).await;
    assert!(accepted.is_some(), "it was in the queue");
    assert!(
        accept(&listener, &stop, pin!(std::future::pending()))
            .await
            .is_none()
    );
    let _second = TcpStream::connect(address).await.expect("it listens");
    let accepted = accept(&listener, &stop, pin!(std::future::ready(()))).await;
    assert!(accepted.is_none(), "it came too late");
}

#[tokio::test]
async fn an_idle_client_that_sends_after_the_stop_is_answered_and_let_go() {
    let stop = CancellationToken::new();
    let (address, _server) = start(HttpServerConfig::for_operations(), stop.clone()).await;
    let mut client = ask(address, REQUEST).await;
    let mut answer = [0; 1_024];
    let length = client.read(&mut answer).await.expect("an answer");
    assert!(!String::from_utf8_lossy(&answer[..length]).contains("connection: close"));
    stop.cancel();
    client.write_all(REQUEST).await.expect("it is open");
    let mut rest = String::new();
    client
        .read_to_string(&mut rest)
        .await
        .expect("an answer, and the end");
    assert!(
        rest.starts_with("HTTP/1.1 200") && rest.contains("connection: close"),
        "{rest}"
    );
}
