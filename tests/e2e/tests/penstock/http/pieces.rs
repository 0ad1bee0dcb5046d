//! What comes without an end, in pieces as small as can be: TLS records, new TLS keys, chunks, and what stands before a
//! chunk. Either service reads a bounded part of it, and others have their turn meanwhile.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{Event, Organization, RawReceiver, Tls, World, read_request, until};
use futures_util::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::calls::tried;
use crate::http::hostile::connect;
use crate::setup;

/// Connections that flood in each way, all at once.
const CONNECTIONS: usize = 2;

/// How long an attempt at a flooding receiver may take, and how long one takes at the most, on a busy machine.
const TIMEOUT_MS: u64 = 30_000;
const ENDED: Duration = Duration::from_secs(29);

/// Seconds of a core that all these attempts take at the most: one that is read until its timeout takes nearly as many.
const CPU: f64 = 10.0;

/// Pieces that are written at once.
const PIECES: usize = 500;

const HEAD: &str = "HTTP/1.1 200 OK\r\n";
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n\r\n";

/// How a receiver floods the worker.
struct Flood {
    name: &'static str,
    /// Each piece in a record of its own.
    is_tls: bool,
    once: &'static [&'static str],
    /// Nothing is new TLS keys.
    again: &'static [u8],
    outcome: &'static str,
}

const FLOODS: [Flood; 6] = [
    Flood {
        name: "tls.keys",
        is_tls: true,
        once: &[HEAD],
        again: b"",
        outcome: "tls",
    },
    Flood {
        name: "tls.records",
        is_tls: true,
        once: &[HEAD, "x: "],
        again: b"y",
        outcome: "response",
    },
    Flood {
        name: "tls.chunks",
        is_tls: true,
        once: &[HEAD, CHUNKED],
        again: b"1\r\nx\r\n",
        outcome: "delivered",
    },
    Flood {
        name: "chunks",
        is_tls: false,
        once: &[HEAD, CHUNKED],
        again: b"1\r\nx\r\n",
        outcome: "delivered",
    },
    Flood {
        name: "chunk.size",
        is_tls: false,
        once: &[HEAD, CHUNKED, "1\r\nx\r\n"],
        again: b"0",
        outcome: "delivered",
    },
    Flood {
        name: "chunk.extension",
        is_tls: false,
        once: &[HEAD, CHUNKED, "1;"],
        again: b"x",
        outcome: "delivered",
    },
];

impl Flood {
    /// Until the other end hangs up.
    async fn talk(&self, tls: &Tls, mut stream: TcpStream) {
        let once = self.once.concat();
        if !self.is_tls {
            read_request(&mut stream).await;
            let mut written = stream.write_all(once.as_bytes()).await;
            let pieces = self.again.repeat(PIECES);
            while written.is_ok() {
                written = stream.write_all(&pieces).await;
            }
            return;
        }
        let Ok(mut stream) = tls.http1(stream).await else {
            return;
        };
        let _ = stream.read(&mut [0; 4_096]).await;
        let mut written = stream.write_all(once.as_bytes()).await;
        while written.is_ok() {
            let session = stream.get_mut().1;
            for _ in 0..PIECES / 10 {
                let made = match self.again {
                    b"" => session.refresh_traffic_keys().is_ok(),
                    piece => session.writer().write_all(piece).is_ok(),
                };
                assert!(made, "{}", self.name);
            }
            written = stream.flush().await;
        }
    }
}

/// Does something again and again until something else is over.
async fn again_until(each: impl AsyncFn(), other: impl Future<Output = ()>) {
    let again = async {
        loop {
            each().await;
        }
    };
    tokio::select! {
        () = other => {}
        () = again => unreachable!("it never ends"),
    }
}

/// Seconds of a core that the worker has used.
fn cpu(world: &World) -> f64 {
    let pid = world.stack().worker(0).pid().expect("the worker runs");
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("Linux has it");
    let fields = stat.rsplit(')').next().unwrap_or_default();
    let times = fields.split_whitespace().skip(11).take(2);
    // A tick is a hundredth of a second.
    times.filter_map(|field| field.parse::<f64>().ok()).sum::<f64>() / 100.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_answers_in_the_smallest_pieces_is_left_long_before_the_timeout() {
    let tls = Tls::new(env!("CARGO_TARGET_TMPDIR"), "pieces");
    let setup = setup().worker_env("SSL_CERT_FILE", tls.file());
    let mut world = setup.start().await;
    let (hostile, good) = (world.organization().await, world.organization().await);
    let neighbour = world.receiver().await;
    world.endpoint(&good, &neighbour).await;
    let ended = Arc::new(AtomicUsize::new(0));
    let mut receivers = Vec::new();
    for flood in &FLOODS {
        let (tls, ended) = (tls.clone(), ended.clone());
        let talk = move |stream| {
            let (tls, ended) = (tls.clone(), ended.clone());
            async move {
                flood.talk(&tls, stream).await;
                ended.fetch_add(1, Ordering::Relaxed);
            }
        };
        let receiver = RawReceiver::start("127.0.0.1:0", talk).await;
        let url = receiver.url();
        let url = if flood.is_tls {
            url.replace("http:", "https:")
        } else {
            url
        };
        let fields = json!({
            "event_types": [flood.name], "timeout_ms": TIMEOUT_MS, "retry": {"attempts": 1}
        });
        world.endpoint_at(&hostile, &url, fields).await;
        receivers.push(receiver);
    }
    let before = cpu(&world);
    let (hostile, good) = (world.producer(&hostile), world.producer(&good));
    let attacked = async {
        let begun = Instant::now();
        let sent = FLOODS.iter().map(async |flood| {
            let events = (0..CONNECTIONS).map(|_| async { hostile.send(&Event::new(flood.name, "1")).await });
            (flood, join_all(events).await)
        });
        for (flood, ids) in join_all(sent).await {
            for id in ids {
                let attempts = until(flood.name, async || {
                    match world.attempts_of(id).await {
                        attempts if attempts.is_empty() => Err("no attempt"),
                        attempts => Ok(attempts),
                    }
                    .map_err(str::to_owned)
                })
                .await;
                assert_eq!(attempts[0].outcome, flood.outcome, "{}", flood.name);
            }
        }
        until("all connections to end", async || {
            match ended.load(Ordering::Relaxed) {
                count if count == FLOODS.len() * CONNECTIONS => Ok(()),
                count => Err(count.to_string()),
            }
        })
        .await;
        let elapsed = begun.elapsed();
        assert!(elapsed < ENDED, "{elapsed:?}");
        let used = cpu(&world) - before;
        assert!(used < CPU, "{used} s of a core");
    };
    again_until(
        async || {
            let id = good.send(&Event::new("a", "1")).await;
            world.until_delivery_is(id, "delivered").await;
        },
        attacked,
    )
    .await;
    world.finish().await;
}

/// How a producer floods the API: after a request's head.
const BODIES: [(&str, &[u8]); 4] = [
    ("chunks", b"1\r\n \r\n"),
    ("chunk size", b"0"),
    ("chunk extension", b" "),
    ("chunk extensions", b"1; \r\n \r\n"),
];

/// Sends a body in pieces until the other end hangs up.
async fn flood(world: &World, key: &str, piece: &[u8]) {
    let (mut reader, mut writer) = connect(world).await.into_split();
    let once = if piece == b" " { "1;" } else { "" };
    let head = format!(
        "POST /v1/events/batch HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
         {CHUNKED}{once}"
    );
    let pieces = piece.repeat(PIECES);
    let sending = async {
        let mut written = writer.write_all(head.as_bytes()).await;
        while written.is_ok() {
            written = writer.write_all(&pieces).await;
        }
    };
    let mut said = Vec::new();
    let _ = tokio::join!(sending, reader.read_to_end(&mut said));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_body_in_the_smallest_pieces_ends_in_time_and_others_are_answered_meanwhile() {
    let setup = setup().replicas(1, 0).ingest_env("BODY_TIMEOUT", "1s");
    let world = setup.ingest_env("HEADER_TIMEOUT", "1s").start().await;
    let unlimited = json!({"name": "x", "rate_limit_per_minute": 1_000_000_000});
    let good = world.organization_with(&unlimited).await;
    let Organization { key, .. } = world.organization().await;
    for (name, piece) in BODIES {
        for key in [key.as_str(), "none"] {
            let flooded = async {
                let begun = Instant::now();
                join_all((0..CONNECTIONS).map(|_| flood(&world, key, piece))).await;
                let elapsed = begun.elapsed();
                assert!(elapsed < ENDED, "{name}: {elapsed:?}");
            };
            again_until(
                async || assert_eq!(tried(&world, 0, &good.key).await, 404),
                flooded,
            )
            .await;
        }
    }
    world.finish().await;
}
