//! What the users of a valid key notice of a flood.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use e2e::World;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::MissedTickBehavior;

use super::{Maker, counts, known_setup};
use crate::calls::{address, tried};

/// How many requests a second a flood has, for how long, and over how many connections.
const RATE: u64 = 5_000;
const LENGTH: Duration = Duration::from_secs(10);
const CONNECTIONS: u64 = 50;

/// The pause between two uses of the valid key.
const USE: Duration = Duration::from_millis(2);

fn request(key: &str) -> Vec<u8> {
    format!("GET /v1/events/none HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {key}\r\n\r\n").into_bytes()
}

/// Sends a request over a connection that stays open and returns the answer's status.
async fn exchange(connection: &mut TcpStream, request: &[u8]) -> u16 {
    connection.write_all(request).await.expect("it is open");
    let mut answer = Vec::with_capacity(1_024);
    loop {
        let read = connection.read_buf(&mut answer).await.expect("it is open");
        assert!(read > 0, "ingest-api closed a connection");
        if let Some(status) = status_of(&answer) {
            return status;
        }
    }
}

/// The status of an answer, once it is complete; found at as little cost as possible, because the client runs on the
/// machine that it measures.
fn status_of(answer: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(answer);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let (_, rest) = head
        .split_once("content-length: ")
        .expect("an answer has a length");
    let length: usize = rest
        .lines()
        .next()
        .and_then(|line| line.parse().ok())
        .expect("the length is a number");
    let status = || head[9..12].parse().expect("the status is a number");
    (body.len() >= length).then(status)
}

async fn connect(world: &World) -> TcpStream {
    let connection = TcpStream::connect(address(world, 0)).await;
    let connection = connection.expect("ingest-api accepts connections");
    connection.set_nodelay(true).expect("it is a TCP connection");
    connection
}

/// A flood: what it sends, in turn over its connections.
struct Flood {
    connections: Vec<std::net::TcpStream>,
    requests: Vec<Vec<u8>>,
}

impl Flood {
    /// Makes what `RATE` requests a second take for `LENGTH`.
    fn prepare(world: &World, key: impl Fn(u64) -> String) -> Self {
        let connections = (0..CONNECTIONS).map(|_| {
            let connection =
                std::net::TcpStream::connect(address(world, 0)).expect("ingest-api accepts connections");
            connection.set_nodelay(true).expect("it is a TCP connection");
            connection
        });
        Self {
            connections: connections.collect(),
            requests: (0..RATE * LENGTH.as_secs())
                .map(|number| request(&key(number)))
                .collect(),
        }
    }

    /// Sends them evenly spread, and says how many were answered how.
    async fn run(self) -> String {
        let sending = tokio::task::spawn_blocking(|| self.send());
        sending.await.expect("all requests are answered")
    }

    /// In a thread, which wakes at the microsecond: a runtime's timers would send what is due within a millisecond at
    /// once. An answer is read when its connection's next turn comes.
    fn send(mut self) -> String {
        let (begin, between) = (Instant::now(), Duration::from_micros(1_000_000 / RATE));
        let mut statuses = Vec::new();
        let turns = self.connections.len();
        for (index, request) in (0..).zip(&self.requests) {
            std::thread::sleep((begin + between * index).saturating_duration_since(Instant::now()));
            let connection = &mut self.connections[index as usize % turns];
            if index as usize >= turns {
                statuses.push(read_status(connection));
            }
            connection.write_all(request).expect("it is open");
        }
        statuses.extend(self.connections.iter_mut().map(read_status));
        let counts = [401, 404, 429, 503].map(|status| {
            let count = statuses.iter().filter(|each| **each == status).count();
            format!("{count} x {status}")
        });
        let (sum, time) = (statuses.len(), begin.elapsed());
        format!("{sum} requests in {time:?}: {}", counts.join(", "))
    }
}

fn read_status(connection: &mut std::net::TcpStream) -> u16 {
    let (mut answer, mut length) = ([0; 2_048], 0);
    loop {
        let read = connection.read(&mut answer[length..]).expect("it is open");
        assert!(read > 0, "ingest-api closed a connection");
        length += read;
        if let Some(status) = status_of(&answer[..length]) {
            return status;
        }
    }
}

/// Uses a valid key steadily until `meanwhile` is done; how long the answers took, shortest first.
async fn use_steadily<T>(world: &World, key: &str, meanwhile: impl Future<Output = T>) -> (Vec<Duration>, T) {
    let (mut connection, request) = (connect(world).await, request(key));
    let mut times = Vec::new();
    let mut tick = tokio::time::interval(USE);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let using = async {
        loop {
            tick.tick().await;
            let begun = Instant::now();
            assert_eq!(exchange(&mut connection, &request).await, 404);
            times.push(begun.elapsed());
        }
    };
    let done = tokio::select! {
        done = meanwhile => done,
        () = using => unreachable!("it never ends"),
    };
    times.sort_unstable();
    (times, done)
}

/// Prints what a valid key notices of floods, each compared with a quiet time: of requests that are all right, of
/// made-up keys, and of unknown keys with a right check.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "measures for most of a minute, for which it wants a quiet machine and a release build"]
async fn measure_what_a_valid_key_notices_of_a_flood() {
    let world = known_setup().start().await;
    let unlimited = serde_json::json!({"name": "x", "rate_limit_per_minute": 1_000_000_000});
    let valid = world.organization_with(&unlimited).await.key;
    let other = world.organization_with(&unlimited).await.key;
    for key in [&valid, &other] {
        assert_eq!(tried(&world, 0, key).await, 404);
    }
    let (quiet, ()) = use_steadily(&world, &valid, tokio::time::sleep(LENGTH)).await;
    let percentile = |times: &[Duration], part: usize| times[(times.len() * part).div_ceil(100) - 1];
    let report = |name: &str, times: &[Duration], detail: &str| {
        let (p50, p99) = (percentile(times, 50), percentile(times, 99));
        let ratio = p99.as_secs_f64() / percentile(&quiet, 99).as_secs_f64();
        println!(
            "{name}: {} uses, p50 {p50:?}, p99 {p99:?} ({ratio:.2} of quiet), max {:?}; {detail}",
            times.len(),
            times[times.len() - 1]
        );
    };
    report("quiet", &quiet, "");
    let flood = Flood::prepare(&world, |_| other.clone());
    let (times, detail) = use_steadily(&world, &valid, flood.run()).await;
    report("valid requests", &times, &detail);
    for (name, maker) in [("made-up keys", Maker::Guesses), ("right checks", Maker::Knows)] {
        let flood = Flood::prepare(&world, |number| maker.key(number));
        let before = counts(&world).await;
        let (times, detail) = use_steadily(&world, &valid, flood.run()).await;
        let after = counts(&world).await;
        let counted: [u64; 3] = std::array::from_fn(|index| after[index] - before[index]);
        report(
            name,
            &times,
            &format!("{detail}; [forgeries, look-ups, argon2] {counted:?}"),
        );
    }
    world.finish().await;
}
