//! Connections to receivers that break, hang or are refused under a request: the request goes out once more on a new one,
//! in the same attempt.

mod http2;
mod odd_answers;

use e2e::{Event, RawReceiver, Tls, World, read_request};
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
        .endpoint_at(
            &organization,
            url,
            json!({"max_in_flight": 1, "timeout_ms": 20_000}),
        )
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
        let fields = json!({"event_types": [kind], "max_in_flight": 1, "timeout_ms": 20_000});
        world.endpoint_at(&organization, &receiver.url(), fields).await;
        for _ in 0..3 {
            let id = producer.send(&Event::new(&kind, "1")).await;
            is_delivered_at_once(&world, id).await;
        }
    }
    assert_eq!(kept.map(|receiver| receiver.connections()), [1, 3]);
    world.finish().await;
}
