//! Connections to receivers that break, hang or are refused under a request: the request goes out once more on a new one,
//! in the same attempt.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{Attempt, Event, Http2Peer, RawReceiver, Tls, World, frame, read_request};
use futures_util::future::join_all;
use serde_json::json;
use shared::domain::id::EventId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::setup;

const NO_CONTENT: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// Webhooks to a receiver, each of which has one attempt.
const EVENTS: usize = 16;

/// A worker that makes one attempt at each delivery, and trusts `tls`.
async fn world(tls: Option<&Tls>) -> World {
    let setup = setup().worker_env("RETRY_ATTEMPTS", "1");
    match tls {
        Some(tls) => setup.worker_env("SSL_CERT_FILE", tls.file()).start().await,
        None => setup.start().await,
    }
}

fn tls(name: &str) -> Tls {
    Tls::new(env!("CARGO_TARGET_TMPDIR"), name)
}

fn https(receiver: &RawReceiver) -> String {
    receiver.url().replace("http:", "https:")
}

/// Sends events to an endpoint at `url`, one after the other, and waits until all are delivered in one attempt each.
async fn all_are_delivered(world: &World, url: &str) {
    let organization = world.organization().await;
    world
        .endpoint_at(&organization, url, json!({"max_in_flight": 1}))
        .await;
    let producer = world.producer(&organization);
    for _ in 0..EVENTS {
        let id = producer.send(&Event::new("a", "1")).await;
        is_delivered_at_once(world, id).await;
    }
}

async fn is_delivered_at_once(world: &World, id: EventId) {
    world.until_delivery_is(id, "delivered").await;
    let attempts = world.attempts_of(id).await;
    let outcomes: Vec<_> = attempts.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["delivered"]);
}

/// Answers one request, and ends the connection when the next one arrives: with a reset, because it was not read.
async fn reset_at_the_second(mut stream: TcpStream) {
    read_request(&mut stream).await;
    let _ = stream.write_all(NO_CONTENT).await;
    let _ = stream.peek(&mut [0]).await;
}

/// The same after the second request was read: the connection ends as it should.
async fn end_at_the_second(mut stream: TcpStream) {
    for answer in [NO_CONTENT, b""] {
        read_request(&mut stream).await;
        // The body, which is short.
        let _ = stream.write_all(answer).await;
    }
    let _ = stream.shutdown().await;
    let _ = stream.read(&mut [0; 1_024]).await;
}

/// Says that it has waited for too long, as load balancers do, just when the second request arrives.
async fn time_out_at_the_second(mut stream: TcpStream) {
    read_request(&mut stream).await;
    let _ = stream.write_all(NO_CONTENT).await;
    let _ = stream.peek(&mut [0]).await;
    let answer = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    let _ = stream.write_all(answer).await;
    let _ = stream.shutdown().await;
    while stream.read(&mut [0; 1_024]).await.is_ok_and(|length| length > 0) {}
}

#[tokio::test]
async fn a_receiver_that_closes_an_idle_connection_as_the_next_request_arrives_gets_it_on_a_new_one() {
    let world = world(None).await;
    let receivers = [
        RawReceiver::start("127.0.0.1:0", reset_at_the_second).await,
        RawReceiver::start("127.0.0.1:0", end_at_the_second).await,
        RawReceiver::start("127.0.0.1:0", time_out_at_the_second).await,
    ];
    join_all(
        receivers
            .iter()
            .map(async |receiver| all_are_delivered(&world, &receiver.url()).await),
    )
    .await;
    for receiver in receivers {
        // Each has been used again, and has broken.
        assert_eq!(receiver.connections(), EVENTS);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_tls_connection_that_closes_as_the_next_request_arrives_is_left_for_a_new_one() {
    let tls = tls("closing");
    let world = world(Some(&tls)).await;
    let receiver = RawReceiver::start("127.0.0.1:0", move |stream| {
        let tls = tls.clone();
        async move {
            let Ok(mut stream) = tls.http1(stream).await else {
                return;
            };
            let mut request = [0; 4_096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(NO_CONTENT).await;
            let _ = stream.get_ref().0.peek(&mut [0]).await;
            let _ = stream.shutdown().await;
        }
    })
    .await;
    all_are_delivered(&world, &https(&receiver)).await;
    world.finish().await;
}

/// A receiver that speaks HTTP/2. On each connection, `talk` is told how many there were before.
async fn http2_receiver<Talk>(tls: &Tls, talk: fn(Http2Peer, usize) -> Talk) -> RawReceiver
where
    Talk: Future<Output = ()> + Send + 'static,
{
    let (tls, count) = (tls.clone(), Arc::new(AtomicUsize::new(0)));
    RawReceiver::start("127.0.0.1:0", move |stream| {
        let (tls, before) = (tls.clone(), count.fetch_add(1, Ordering::Relaxed));
        async move {
            if let Ok(peer) = tls.http2(stream).await {
                talk(peer, before).await;
            }
        }
    })
    .await
}

async fn answer_one(peer: &mut Http2Peer) {
    if let Ok(stream) = peer.request().await {
        let _ = peer.answer(stream).await;
    }
}

async fn refuse_the_second(mut peer: Http2Peer, _: usize) {
    const REFUSED_STREAM: [u8; 4] = 7_u32.to_be_bytes();
    answer_one(&mut peer).await;
    if let Ok(stream) = peer.request().await {
        let _ = peer.write(frame::RST_STREAM, 0, stream, &REFUSED_STREAM).await;
    }
    let _ = peer.request().await;
}

async fn go_away_at_the_second(mut peer: Http2Peer, _: usize) {
    answer_one(&mut peer).await;
    if peer.request().await.is_ok() {
        // The last stream that was begun is the first.
        let _ = peer.write(frame::GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
    }
    let _ = peer.request().await;
}

async fn hang_up_at_the_second(mut peer: Http2Peer, _: usize) {
    answer_one(&mut peer).await;
    let _ = peer.request().await;
}

/// The first connection answers one request and then nothing any more, not even a ping.
async fn hang_on_the_first(mut peer: Http2Peer, before: usize) {
    if before > 0 {
        return peer.answer_all().await;
    }
    answer_one(&mut peer).await;
    let _ = peer.request().await;
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn a_request_that_was_refused_or_left_out_over_http_2_goes_out_again_at_once() {
    let tls = tls("refusing");
    let world = world(Some(&tls)).await;
    let receivers = [
        http2_receiver(&tls, refuse_the_second).await,
        http2_receiver(&tls, go_away_at_the_second).await,
    ];
    let hanging_up = http2_receiver(&tls, hang_up_at_the_second).await;
    let receivers = receivers.iter().chain([&hanging_up]);
    join_all(receivers.map(async |receiver| all_are_delivered(&world, &https(receiver)).await)).await;
    world.finish().await;
}

#[tokio::test]
async fn an_http_2_connection_that_hangs_is_left_within_seconds() {
    let tls = tls("hanging");
    let world = world(Some(&tls)).await;
    let receiver = http2_receiver(&tls, hang_on_the_first).await;
    let organization = world.organization().await;
    world
        .endpoint_at(&organization, &https(&receiver), json!({"timeout_ms": 20_000}))
        .await;
    let producer = world.producer(&organization);
    let first = producer.send(&Event::new("a", "1")).await;
    is_delivered_at_once(&world, first).await;
    for id in join_all((0..EVENTS).map(|_| async { producer.send(&Event::new("a", "1")).await })).await {
        is_delivered_at_once(&world, id).await;
    }
    world.finish().await;
}

/// The first connection confirms pings, and answers no request but the first.
async fn stall_on_the_first(mut peer: Http2Peer, before: usize) {
    if before > 0 {
        return peer.answer_all().await;
    }
    answer_one(&mut peer).await;
    while peer.request().await.is_ok() {}
}

#[tokio::test]
async fn a_connection_with_an_attempt_that_timed_out_takes_no_new_request() {
    let tls = tls("stalling");
    let setup = setup().worker_env("SSL_CERT_FILE", tls.file());
    let world = setup.start().await;
    let receiver = http2_receiver(&tls, stall_on_the_first).await;
    let organization = world.organization().await;
    world
        .endpoint_at(&organization, &https(&receiver), json!({"timeout_ms": 1_000}))
        .await;
    let producer = world.producer(&organization);
    let first = producer.send(&Event::new("a", "1")).await;
    world.until_delivery_is(first, "delivered").await;
    let second = producer.send(&Event::new("a", "1")).await;
    world.until_delivery_is(second, "delivered").await;
    let attempt = |number, outcome: &str, response_status| Attempt {
        number,
        outcome: outcome.to_owned(),
        response_status,
    };
    assert_eq!(
        world.attempts_of(second).await,
        [attempt(1, "timeout", None), attempt(2, "delivered", Some(204))]
    );
    assert_eq!(receiver.connections(), 2);
    world.finish().await;
}

#[tokio::test]
async fn a_connection_is_not_used_longer_than_the_receiver_keeps_it() {
    let world = world(None).await;
    let answer = |head: &'static str| {
        RawReceiver::start("127.0.0.1:0", move |mut stream: TcpStream| async move {
            for _ in 0..EVENTS {
                read_request(&mut stream).await;
                let answer = format!("HTTP/1.1 204 No Content\r\n{head}\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        })
    };
    let organization = world.organization().await;
    let producer = world.producer(&organization);
    let kept = [
        answer("keep-alive: timeout=60").await,
        answer("keep-alive: timeout=1, max=0").await,
    ];
    for (number, receiver) in kept.iter().enumerate() {
        let kind = format!("kind.{number}");
        let fields = json!({"event_types": [kind], "max_in_flight": 1});
        world.endpoint_at(&organization, &receiver.url(), fields).await;
        for _ in 0..3 {
            let id = producer.send(&Event::new(&kind, "1")).await;
            is_delivered_at_once(&world, id).await;
        }
    }
    assert_eq!(kept.map(|receiver| receiver.connections()), [1, 3]);
    world.finish().await;
}

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
