//! Answers that are none, that do not end, or that are too large: each attempt ends by its deadline, says what
//! happened, and costs little memory.

use std::time::Duration;

use e2e::{Event, RawReceiver, World, read_request, until};
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, join_all};
use serde_json::json;
use sqlx::FromRow;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::capture::free_port;
use crate::setup;

/// The endpoints' timeout. On a busy machine what is too large must have come before.
const TIMEOUT_MS: u64 = 10_000;

/// How much later a busy machine may notice the end of the timeout.
const SLACK: Duration = Duration::from_secs(10);

/// Events to each endpoint, all at once.
const EVENTS: usize = 10;

/// What 80 attempts at once may add to the worker's memory. Without bounds each would take more than this.
const MAX_GROWTH_KIB: u64 = 96 * 1024;

struct Case {
    talk: fn(TcpStream) -> BoxFuture<'static, ()>,
    outcome: &'static str,
    status: Option<i16>,
    /// The answer's first bytes as they are kept, and how many are.
    response: (&'static [u8], usize),
}

/// Writes the same bytes again and again until the other side hangs up.
async fn repeat(mut stream: TcpStream, head: &str, bytes: &[u8], pause: Duration) {
    read_request(&mut stream).await;
    let mut written = stream.write_all(head.as_bytes()).await;
    while written.is_ok() {
        tokio::time::sleep(pause).await;
        written = stream.write_all(bytes).await;
    }
}

/// Writes bytes once and keeps the connection open.
async fn say(mut stream: TcpStream, bytes: Vec<u8>) {
    read_request(&mut stream).await;
    // Whoever hangs up in the middle has heard enough.
    let _ = stream.write_all(&bytes).await;
    std::future::pending::<()>().await;
}

/// In the timeout there are fewer of these than an attempt may have interim answers.
const DRIP: Duration = Duration::from_millis(150);
const FLOOD: Duration = Duration::ZERO;
const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";

const CASES: &[(&str, Case)] = &[
    (
        "endless.body",
        Case {
            talk: |stream| repeat(stream, OK, &[b'x'; 64 * 1024], FLOOD).boxed(),
            outcome: "delivered",
            status: Some(200),
            response: (b"xxxx", 4_096),
        },
    ),
    (
        "dripping.body",
        Case {
            talk: |stream| repeat(stream, "HTTP/1.1 500 Oh\r\n\r\nslow", b"", DRIP).boxed(),
            outcome: "status",
            status: Some(500),
            response: (b"slow", 4),
        },
    ),
    (
        "dripping.headers",
        Case {
            talk: |stream| repeat(stream, "HTTP/1.1 200 OK\r\nx: ", b"y", DRIP).boxed(),
            outcome: "timeout",
            status: None,
            response: (b"", 0),
        },
    ),
    (
        "endless.header",
        Case {
            talk: |stream| repeat(stream, "HTTP/1.1 200 OK\r\nx: ", &[b'y'; 64 * 1024], FLOOD).boxed(),
            outcome: "response",
            status: None,
            response: (b"", 0),
        },
    ),
    (
        "large.header",
        Case {
            talk: |stream| {
                let head = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1 << 20));
                say(stream, head.into_bytes()).boxed()
            },
            outcome: "response",
            status: None,
            response: (b"", 0),
        },
    ),
    (
        "many.headers",
        Case {
            talk: |stream| {
                let head = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(10_000));
                say(stream, head.into_bytes()).boxed()
            },
            outcome: "response",
            status: None,
            response: (b"", 0),
        },
    ),
    (
        "endless.interim",
        Case {
            talk: |stream| repeat(stream, "", b"HTTP/1.1 102 Processing\r\n\r\n", DRIP).boxed(),
            outcome: "timeout",
            status: None,
            response: (b"", 0),
        },
    ),
    (
        "compressed.body",
        Case {
            talk: |stream| {
                // `say` answers one request of a connection and no other.
                let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-encoding: gzip\r\n\
                            content-length: 6\r\n\r\n";
                say(stream, [head.as_bytes(), b"\x1f\x8b\x08\0\0\0"].concat()).boxed()
            },
            outcome: "delivered",
            status: Some(200),
            // As it came: what is not unpacked is no bomb.
            response: (b"\x1f\x8b\x08\0\0\0", 6),
        },
    ),
];

/// How an attempt is recorded.
#[derive(Debug, FromRow)]
struct Row {
    r#type: String,
    outcome: String,
    response_status: Option<i16>,
    response_body: Vec<u8>,
    duration_ms: i32,
}

async fn until_attempts(world: &World, count: usize) -> Vec<Row> {
    until(&format!("{count} attempts"), async || {
        let query = sqlx::query_as(
            "select e.type, a.outcome, a.response_status, coalesce(a.response_body, '') as response_body,
                    a.duration_ms
             from attempt_history a join events e on e.id = a.event_id order by e.type",
        );
        let rows: Vec<Row> = query
            .fetch_all(world.database())
            .await
            .map_err(|error| error.to_string())?;
        if rows.len() == count {
            Ok(rows)
        } else {
            Err(rows.len().to_string())
        }
    })
    .await
}

/// The most memory that the worker ever had.
fn peak_kib(world: &World) -> u64 {
    let pid = world.stack().worker(0).pid().expect("the worker runs");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux has it");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kib.expect("the peak is among it")
        .parse()
        .expect("it is a number")
}

#[tokio::test]
async fn answers_that_do_not_end_or_are_too_large_end_with_their_attempt_and_take_little_memory() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let organization = world.organization().await;
    let plain = world.receiver().await;
    world
        .endpoint_with(&organization, &plain, json!({"event_types": ["plain"]}))
        .await;
    let mut receivers = Vec::new();
    for (name, case) in CASES {
        let receiver = RawReceiver::start("127.0.0.1:0", case.talk).await;
        let fields = json!({"event_types": [name], "timeout_ms": TIMEOUT_MS});
        world.endpoint_at(&organization, &receiver.url(), fields).await;
        receivers.push(receiver);
    }
    let producer = world.producer(&organization);
    let send = async |name: &str| {
        join_all((0..EVENTS).map(|_| async { producer.send(&Event::new(name, "1")).await })).await
    };
    // What a worker takes anyway.
    send("plain").await;
    plain.wait_for(EVENTS).await;
    let before = peak_kib(&world);
    join_all(CASES.iter().map(|(name, _)| send(name))).await;
    let attempts = until_attempts(&world, EVENTS * (CASES.len() + 1)).await;
    let growth = peak_kib(&world) - before;
    for row in attempts.iter().filter(|row| row.r#type != "plain") {
        let (_, case) = CASES.iter().find(|(name, _)| *name == row.r#type).unwrap();
        assert_eq!(
            (row.outcome.as_str(), row.response_status),
            (case.outcome, case.status),
            "{row:?}"
        );
        let (start, length) = case.response;
        assert!(
            row.response_body.starts_with(start) && row.response_body.len() == length,
            "{row:?}"
        );
        let duration = Duration::from_millis(row.duration_ms.try_into().unwrap());
        assert!(duration < Duration::from_millis(TIMEOUT_MS) + SLACK, "{row:?}");
    }
    assert!(growth < MAX_GROWTH_KIB, "{growth} KiB more than {before} KiB");
    world.finish().await;
}

#[tokio::test]
async fn an_answer_that_comes_before_all_of_the_request_was_read_counts() {
    let world = setup().start().await;
    let organization = world.organization().await;
    let receiver = RawReceiver::start("127.0.0.1:0", async |mut stream| {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    world.endpoint_at(&organization, &receiver.url(), json!({})).await;
    // More than the buffers of the connection hold.
    let event = Event::new("a", format!("\"{}\"", "x".repeat(200_000)));
    let id = world.producer(&organization).send(&event).await;
    world.until_delivery_is(id, "delivered").await;
    assert_eq!(receiver.connections(), 1);
    world.finish().await;
}

#[tokio::test]
async fn a_failure_without_an_answer_says_what_kind_it_is() {
    let world = setup().worker_env("RETRY_ATTEMPTS", "1").start().await;
    let organization = world.organization().await;
    let talks = |bytes: &'static [u8]| {
        RawReceiver::start("127.0.0.1:0", move |mut stream: TcpStream| async move {
            read_request(&mut stream).await;
            let _ = stream.write_all(bytes).await;
        })
    };
    let (hangs_up, speaks_ssh, stops) = (
        talks(b"").await,
        talks(b"SSH-2.0-OpenSSH_9.2\r\n\r\n").await,
        talks(b"HTTP/1.1 200 OK\r\nx:").await,
    );
    let plain = RawReceiver::start("127.0.0.1:0", async |mut stream| {
        let _ = stream.read(&mut [0; 16]).await;
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        std::future::pending::<()>().await;
    })
    .await;
    let silent = RawReceiver::start("127.0.0.1:0", async |_stream| std::future::pending().await).await;
    let closed = format!("http://127.0.0.1:{}/", free_port());
    for (name, url, outcome) in [
        ("hangs.up", hangs_up.url(), "network"),
        ("stops", stops.url(), "network"),
        ("speaks.ssh", speaks_ssh.url(), "response"),
        ("speaks.no.tls", plain.url().replace("http:", "https:"), "tls"),
        ("closed", closed, "connect"),
        ("silent", silent.url(), "timeout"),
    ] {
        let fields = json!({"event_types": [name], "timeout_ms": 5_000});
        world.endpoint_at(&organization, &url, fields).await;
        let id = world.producer(&organization).send(&Event::new(name, "1")).await;
        world.until_delivery_is(id, "dead").await;
        assert_eq!(world.attempts_of(id).await[0].outcome, outcome, "{name}");
    }
    world.finish().await;
}
