use std::time::Duration;

use super::*;

const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;

fn frame(kind: u8, stream: u32, length: u32) -> Vec<u8> {
    let [_, a, b, c] = length.to_be_bytes();
    let mut frame = vec![a, b, c, kind, 0];
    frame.extend(stream.to_be_bytes());
    frame.resize(HEAD_BYTES + length as usize, 0);
    frame
}

fn http2() -> FrameMeter {
    let mut meter = FrameMeter::new();
    meter.read(PREFACE).unwrap();
    meter
}

/// How many frames are taken before it is too many; nothing when all are.
fn taken(meter: &mut FrameMeter, frame: &[u8], frames: usize) -> Option<usize> {
    (0..frames).find(|_| meter.read(frame).is_err())
}

#[tokio::test(start_paused = true)]
async fn frames_that_belong_to_no_request_are_bounded_whatever_they_are() {
    let burst = usize::try_from(BURST).unwrap();
    for (frame, most) in [
        (frame(PING, 0, 8), burst),
        (frame(SETTINGS, 0, 0), burst),
        (frame(WINDOW_UPDATE, 0, 4), burst),
        (frame(DATA, 1, 0), burst),
        (frame(2, 1, 5), burst),
        (frame(0xaa, 0, 0), burst),
        (frame(9, 1, 0), burst),
        (frame(SETTINGS, 0, 16_380), burst / 64),
        (frame(RESET, 1, 4), burst / 5),
    ] {
        assert_eq!(
            taken(&mut http2(), &frame, 10_000),
            Some(most),
            "type {}",
            frame[3]
        );
    }
}

#[tokio::test(start_paused = true)]
async fn frames_are_told_apart_wherever_the_bytes_are_cut() {
    let mut bytes = PREFACE.to_vec();
    let frames = usize::try_from(BURST).unwrap() + 1;
    bytes.extend(frame(PING, 0, 8).repeat(frames));
    for size in [1, 7, 8, 9, 10, 17, 8_192] {
        let mut meter = FrameMeter::new();
        let mut pieces = bytes.chunks(size).map(|piece| meter.read(piece));
        assert_eq!(pieces.next_back(), Some(Ok(())), "the last alone is no preface");
        let mut meter = FrameMeter::new();
        let outcomes: Vec<_> = bytes.chunks(size).map(|piece| meter.read(piece)).collect();
        assert!(outcomes.iter().any(Result::is_err), "pieces of {size}");
        let mut meter = FrameMeter::new();
        let fewer = &bytes[..bytes.len() - 17];
        assert!(fewer.chunks(size).all(|piece| meter.read(piece).is_ok()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_what_it_should_is_let_be() {
    let mut meter = http2();
    // Pings and windows every second, for a day.
    for _ in 0..86_400 {
        tokio::time::advance(Duration::from_secs(1)).await;
        for frame in [frame(PING, 0, 8), frame(WINDOW_UPDATE, 0, 4)] {
            meter.read(&frame).unwrap();
        }
    }
    // Requests, each with a body that ends with an empty frame, an answer, and two windows.
    for request in 0..100_000 {
        let stream = 2 * request + 1;
        meter.read(&frame(HEADERS, stream, 40)).unwrap();
        meter.read(&frame(DATA, stream, 100)).unwrap();
        meter.read(&frame(DATA, stream, 0)).unwrap();
        meter.wrote(200);
        meter.read(&frame(WINDOW_UPDATE, stream, 4)).unwrap();
        meter.read(&frame(WINDOW_UPDATE, 0, 4)).unwrap();
    }
    // A large answer, each of whose pieces opens both windows.
    for _ in 0..100_000 {
        meter.wrote(4_096);
        meter.read(&frame(WINDOW_UPDATE, 1, 4)).unwrap();
        meter.read(&frame(WINDOW_UPDATE, 0, 4)).unwrap();
    }
    // A long upload in small pieces.
    for _ in 0..100_000 {
        meter.read(&frame(DATA, 1, 64)).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn requests_that_are_taken_back_at_once_are_bounded() {
    let mut meter = http2();
    let begun = (0..10_000).find(|request| {
        let stream = 2 * request + 1;
        let request = [frame(HEADERS, stream, 40), frame(RESET, stream, 4)];
        meter.read(&request.concat()).is_err()
    });
    assert_eq!(begun, Some(u32::try_from(BURST - REQUEST_EARNS).unwrap()));
}

#[tokio::test(start_paused = true)]
async fn time_brings_more() {
    let (mut meter, ping) = (http2(), frame(PING, 0, 8));
    assert_eq!(taken(&mut meter, &ping, usize::try_from(BURST).unwrap()), None);
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(taken(&mut meter, &ping, 10_000), Some(200));
}

#[tokio::test(start_paused = true)]
async fn http1_is_not_looked_at() {
    let mut meter = FrameMeter::new();
    meter.read(b"PRI").unwrap();
    meter.read(b"NT / HTTP/1.1\r\n").unwrap();
    assert_eq!(taken(&mut meter, &[0; 900], 10_000), None);
}
