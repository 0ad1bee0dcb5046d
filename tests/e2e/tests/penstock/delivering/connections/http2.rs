//! Connections over HTTP/2.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::{Attempt, Event, Http2Peer, RawReceiver, Tls, frame};
use futures_util::future::join_all;
use serde_json::json;

use super::{EVENTS, all_are_delivered, https, is_delivered_at_once, tls, world};
use crate::setup;

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
    // A busy machine may take a while for what is answered.
    world
        .endpoint_at(&organization, &https(&receiver), json!({"timeout_ms": 4_000}))
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

/// Goes away with more words than anybody needs.
async fn go_away_at_length(mut peer: Http2Peer, _: usize) {
    const PROTOCOL_ERROR: u8 = 1;
    if peer.request().await.is_ok() {
        let mut payload = vec![0, 0, 0, 0, 0, 0, 0, PROTOCOL_ERROR];
        payload.resize(16_000, 7);
        let _ = peer.write(frame::GOAWAY, 0, 0, &payload).await;
    }
    let _ = peer.request().await;
}

#[tokio::test]
async fn little_is_kept_of_what_a_receiver_says_when_it_goes_away() {
    let tls = tls("talkative");
    let world = world(Some(&tls)).await;
    let receiver = http2_receiver(&tls, go_away_at_length).await;
    let organization = world.organization().await;
    world
        .endpoint_at(&organization, &https(&receiver), json!({}))
        .await;
    let producer = world.producer(&organization);
    let id = producer.send(&Event::new("a", "1")).await;
    world.until_delivery_is(id, "dead").await;
    let kept = world
        .count("select octet_length(last_error)::bigint from deliveries")
        .await;
    assert_eq!(kept, 1_024);
    world.finish().await;
}
