//! How many HTTP/2 frames a client may send that belong to no request: pings, settings, window updates and the like cost
//! work, and the protocol sets no bound on them.
//!
//! Requests, the bytes of their bodies and the bytes of their answers earn the frames that go along with them; a few
//! more may come at any time. HTTP/1 has no frames, and is not counted.

use tokio::time::Instant;

/// The bytes that every HTTP/2 client sends first.
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

/// Frames that a request earns.
const REQUEST_EARNS: i64 = 4;

/// A request that is taken back at once has cost work for nothing.
const RESET_COSTS: i64 = 5;

/// Bytes of a body, or of an answer, that earn a frame.
const BODY_BYTES: i64 = 64;
const WRITTEN_BYTES: i64 = 1_024;

/// Bytes of any other frame that cost as much as one more frame.
const PAYLOAD_BYTES: i64 = 256;

/// Too many frames came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many HTTP/2 frames that belong to no request")]
pub(super) struct Flood;

/// Counts the frames of one connection as its bytes come.
#[derive(Debug)]
pub(super) struct FrameMeter {
    place: Place,
    /// The highest stream so far: a higher one is a new request.
    last_stream: u32,
    /// Frames that may still come, and when the last seconds were counted in.
    left: i64,
    counted_at: Instant,
    /// Bytes written that have not earned a frame.
    written: i64,
}

/// The part of the stream to which the next bytes belong.
#[derive(Debug)]
enum Place {
    /// The preface, of which this many bytes have come.
    Preface(usize),
    /// The head of a frame, of which this many bytes have come.
    Head([u8; HEAD_BYTES], usize),
    /// The payload of a frame, of which this many bytes are to come.
    Payload(usize),
    /// The connection does not speak HTTP/2.
    Elsewhere,
}

impl FrameMeter {
    /// The count of a connection that was just accepted.
    pub(super) fn new() -> Self {
        Self {
            place: Place::Preface(0),
            last_stream: 0,
            left: BURST,
            counted_at: Instant::now(),
            written: 0,
        }
    }

    /// Counts bytes that the client sent.
    ///
    /// # Errors
    /// When too many frames belong to no request.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Result<(), Flood> {
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

    /// Counts bytes that were written to the client.
    pub(super) fn wrote(&mut self, bytes: usize) {
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
            let millis = now.duration_since(self.counted_at).as_millis();
            self.counted_at = now;
            self.earn(i64::try_from(millis).unwrap_or(i64::MAX / EACH_SECOND) * EACH_SECOND / 1_000);
        }
        if self.left < 0 { Err(Flood) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
