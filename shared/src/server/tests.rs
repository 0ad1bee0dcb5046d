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

/// Bytes of one answer.
const MEDIUM: u32 = 200_000;

/// How many of these there are.
static MEDIUMS: AtomicU32 = AtomicU32::new(0);

struct Medium(Vec<u8>);

impl Medium {
    fn new() -> Self {
        MEDIUMS.fetch_add(1, Ordering::Relaxed);
        Self(vec![0; MEDIUM as usize])
    }
}

impl AsRef<[u8]> for Medium {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Medium {
    fn drop(&mut self) {
        MEDIUMS.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn until_medium_is_free() {
    let free = async {
        while MEDIUMS.load(Ordering::Relaxed) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let freed = tokio::time::timeout(PATIENCE, free).await;
    freed.expect("its memory is given back");
}

async fn start(
    config: HttpServerConfig,
    stop: CancellationToken,
) -> (std::net::SocketAddr, JoinSet<anyhow::Result<()>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new()
        .route("/large", get(|| async { vec![0; 64 << 20] }))
        .route("/medium", get(|| async { Bytes::from_owner(Medium::new()) }))
        .fallback(|| async { "here" });
    let mut server = JoinSet::new();
    server.spawn(serve(listener, app, config, stop, DRAIN));
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
        let mut bytes = vec![0; 64 * 1024];
        while first.read(&mut bytes).await.is_ok_and(|length| length > 0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, steadily).await;
    ended.expect("it is not sent to its end, which would take as long");
    another_is_answered(address).await;
}

// Types of HTTP/2 frames, and a flag.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const END: u8 = 1;

/// The beginning of an HTTP/2 connection whose streams may be sent this many bytes.
fn http2_preface(window: u32) -> Vec<u8> {
    let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04";
    [&settings[..], &window.to_be_bytes()].concat()
}

/// `GET` of a path of less than 128 bytes.
fn http2_request(stream: u8, path: &str) -> Vec<u8> {
    let length = u8::try_from(path.len()).expect("it is short");
    let head = [b"\x82\x86\x04", &[length][..], path.as_bytes(), b"\x41\x01x"].concat();
    let length = u8::try_from(head.len()).expect("it is short");
    [&[0, 0, length, 1, 5, 0, 0, 0, stream][..], &head].concat()
}

fn window_update(stream: u8, bytes: u32) -> Vec<u8> {
    [&[0, 0, 4, 8, 0, 0, 0, 0, stream][..], &bytes.to_be_bytes()].concat()
}

/// The next frame that is not about the connection: its type, its flags, its stream and what is in it. Pings are
/// answered. Nothing at the end of the connection.
async fn next_frame(client: &mut TcpStream) -> Option<(u8, u8, u8, Vec<u8>)> {
    loop {
        let mut head = [0; 9];
        client.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        client.read_exact(&mut payload).await.expect("a whole frame");
        match (head[3], head[4]) {
            (6, 0) => {
                head[4] = 1;
                let _ = client.write_all(&[&head[..], &payload].concat()).await;
            }
            (kind, flags) if head[8] != 0 => return Some((kind, flags, head[8], payload)),
            _ => {}
        }
    }
}

#[tokio::test]
async fn an_http2_answer_may_take_longer_than_its_connection_may_be_idle() {
    let config = HttpServerConfig {
        idle_timeout: Duration::from_secs(1),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let mut client = TcpStream::connect(address).await.expect("it listens");
    let begin = [http2_preface(MEDIUM / 12), http2_request(1, "/medium")].concat();
    client.write_all(&begin).await.expect("it is open");
    let (sent_at, mut taken) = (Instant::now(), 0);
    loop {
        let frame = tokio::time::timeout(PATIENCE, next_frame(&mut client)).await;
        let frame = frame.expect("it goes on");
        let (kind, flags, _, payload) = frame.unwrap_or_else(|| panic!("it was closed after {taken} bytes"));
        if kind != DATA {
            continue;
        }
        let length = u32::try_from(payload.len()).expect("a frame is short");
        taken += length;
        if flags & END == END {
            break;
        }
        // It is slow, but not idle.
        tokio::time::sleep(Duration::from_millis(250)).await;
        let more = [window_update(0, length), window_update(1, length)].concat();
        client.write_all(&more).await.expect("it is open");
    }
    assert_eq!(taken, MEDIUM);
    assert!(sent_at.elapsed() > Duration::from_secs(2), "it took long enough");
}

#[tokio::test]
async fn an_http2_answer_that_is_not_taken_is_given_up_and_its_connection_serves_others() {
    let config = HttpServerConfig {
        answer_timeout: Duration::from_millis(300),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    // None of it fits, some of it, and all but the last byte.
    for window in [0, 1_000, MEDIUM - 1] {
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let begin = [
            http2_preface(window),
            window_update(0, MEDIUM),
            http2_request(1, "/medium"),
        ];
        client.write_all(&begin.concat()).await.expect("it is open");
        let until = async |client: &mut TcpStream, wanted: (u8, u8)| {
            while let Some((kind, _, stream, _)) = next_frame(client).await {
                if (kind, stream) == wanted {
                    return;
                }
            }
            panic!("the connection was closed before {wanted:?}");
        };
        let reset = tokio::time::timeout(PATIENCE, until(&mut client, (RESET, 1))).await;
        reset.expect("its stream is reset");
        until_medium_is_free().await;
        client
            .write_all(&http2_request(3, "/"))
            .await
            .expect("it is open");
        let answered = tokio::time::timeout(PATIENCE, until(&mut client, (HEADERS, 3))).await;
        answered.expect("an answer");
    }
}

#[tokio::test]
async fn an_http2_connection_without_requests_is_closed_although_it_answers_pings() {
    const OVER_HTTP2: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
        \0\0\0\x04\0\0\0\0\0\
        \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01x";
    let config = HttpServerConfig {
        header_timeout: Duration::from_millis(100),
        idle_timeout: Duration::from_millis(500),
        ..HttpServerConfig::for_operations()
    };
    let (address, _server) = start(config, CancellationToken::new()).await;
    let mut client = ask(address, OVER_HTTP2).await;
    let until_closed = async {
        let (mut answers, mut pings) = (0, 0);
        let mut head = [0; 9];
        while client.read_exact(&mut head).await.is_ok() {
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.expect("a whole frame");
            match (head[3], head[4]) {
                (1, _) => answers += 1,
                (6, 0) => {
                    pings += 1;
                    head[4] = 1;
                    let _ = client.write_all(&[&head[..], &payload].concat()).await;
                }
                _ => {}
            }
        }
        (answers, pings)
    };
    let (answers, pings) = tokio::time::timeout(PATIENCE, until_closed)
        .await
        .expect("it is closed");
    assert!(answers == 1 && pings > 0, "{answers} answers, {pings} pings");
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
