//! How many HTTP/2 frames a client may send that belong to no request: pings, settings, window updates and the like cost
//! work, and the protocol sets no bound on them.
//!
//! Requests, the bytes of their bodies and the bytes of their answers earn the frames that go along with them; a few more
//! may come at any time. HTTP/1 knows no frames, and is not looked at.

use tokio::time::Instant;

/// What every HTTP/2 client sends first.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const HEAD_BYTES: usize = 9;

// Types of frames.
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;

/// Frames that may come at once, and how many more each second brings. A client that pings every second and opens windows
/// as it should needs a few.
const BURST: i64 = 2_000;
const EACH_SECOND: i64 = 200;

/// What a request earns: the frames around it.
const REQUEST_EARNS: i64 = 4;

/// A request that is taken back at once has cost work for nothing.
const RESET_COSTS: i64 = 5;

/// Bytes of a body, and of what is written to the client, that earn a frame.
const BODY_BYTES: i64 = 64;
const WRITTEN_BYTES: i64 = 1_024;

/// Bytes of another frame that cost as much as a frame more.
const PAYLOAD_BYTES: i64 = 256;

/// Too many frames came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many HTTP/2 frames that belong to no request")]
pub struct Flood;

/// Counts the frames of one connection as its bytes come.
#[derive(Debug)]
pub struct FrameMeter {
    place: Place,
    /// The highest stream so far: a higher one is a new request.
    last_stream: u32,
    /// Frames that may still come, and when the last seconds were counted in.
    left: i64,
    counted_at: Instant,
    /// Bytes written that have not earned a frame.
    written: i64,
}

/// Where the bytes that come next belong.
#[derive(Debug)]
enum Place {
    /// In the preface, of which so much has come.
    Preface(usize),
    /// In the head of a frame, of which so much has come.
    Head([u8; HEAD_BYTES], usize),
    /// In the payload of a frame, of which so much is to come.
    Payload(usize),
    /// It is not HTTP/2.
    Elsewhere,
}

impl FrameMeter {
    /// Of a connection that was just accepted.
    pub fn new() -> Self {
        Self {
            place: Place::Preface(0),
            last_stream: 0,
            left: BURST,
            counted_at: Instant::now(),
            written: 0,
        }
    }

    /// Counts what came.
    ///
    /// # Errors
    /// When there is too much that belongs to no request.
    pub fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
        while !bytes.is_empty() {
            let taken = match &mut self.place {
                Place::Elsewhere => return Ok(()),
                Place::Preface(length) => {
                    let wanted = &PREFACE[*length..];
                    let taken = wanted.len().min(bytes.len());
                    self.place = match *length + taken {
                        _ if bytes[..taken] != wanted[..taken] => Place::Elsewhere,
                        length if length == PREFACE.len() => Place::Head([0; HEAD_BYTES], 0),
                        length => Place::Preface(length),
                    };
                    taken
                }
                Place::Payload(left) => {
                    let taken = (*left).min(bytes.len());
                    *left -= taken;
                    if *left == 0 {
                        self.place = Place::Head([0; HEAD_BYTES], 0);
                    }
                    taken
                }
                Place::Head(head, length) => {
                    let taken = (HEAD_BYTES - *length).min(bytes.len());
                    head[*length..*length + taken].copy_from_slice(&bytes[..taken]);
                    *length += taken;
                    if *length == HEAD_BYTES {
                        let head = *head;
                        self.count(head)?;
                    }
                    taken
                }
            };
            bytes = &bytes[taken..];
        }
        Ok(())
    }

    /// Counts what was written.
    pub fn wrote(&mut self, bytes: usize) {
        if matches!(self.place, Place::Elsewhere) {
            return;
        }
        self.written += i64::try_from(bytes).unwrap_or(i64::MAX / 2);
        self.earn(self.written / WRITTEN_BYTES);
        self.written %= WRITTEN_BYTES;
    }

    fn count(&mut self, head: [u8; HEAD_BYTES]) -> Result<(), Flood> {
        let [a, b, c, kind, _, stream @ ..] = head;
        let length = u32::from_be_bytes([0, a, b, c]);
        // The first bit is reserved.
        let stream = u32::from_be_bytes(stream) & (u32::MAX >> 1);
        self.place = match length {
            0 => Place::Head([0; HEAD_BYTES], 0),
            length => Place::Payload(length as usize),
        };
        let length = i64::from(length);
        match kind {
            HEADERS if stream > self.last_stream => {
                self.last_stream = stream;
                self.earn(REQUEST_EARNS);
                Ok(())
            }
            DATA => {
                self.earn(length / BODY_BYTES);
                self.spend(1)
            }
            RESET => self.spend(RESET_COSTS),
            _ => self.spend(1 + length / PAYLOAD_BYTES),
        }
    }

    fn earn(&mut self, frames: i64) {
        self.left = self.left.saturating_add(frames).min(BURST);
    }

    fn spend(&mut self, frames: i64) -> Result<(), Flood> {
        self.left -= frames;
        if self.left < 0 {
            let now = Instant::now();
            let seconds = now.duration_since(self.counted_at).as_secs_f64();
            self.counted_at = now;
            #[expect(
                clippy::cast_possible_truncation,
                reason = "a connection is no million years old"
            )]
            self.earn((seconds * EACH_SECOND as f64) as i64);
        }
        if self.left < 0 { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
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
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(
            taken(&mut meter, &frame(PING, 0, 8), 10_000),
            Some(199),
            "time brings more"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn http1_is_not_looked_at() {
        let mut meter = FrameMeter::new();
        meter.read(b"PRI").unwrap();
        meter.read(b"NT / HTTP/1.1\r\n").unwrap();
        assert_eq!(taken(&mut meter, &[0; 900], 10_000), None);
    }
}
