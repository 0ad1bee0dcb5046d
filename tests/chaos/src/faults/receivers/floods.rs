//! What receivers flood the worker with.

use e2e::{Frame, Tls, frame, read_request};
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Bytes that are written at once.
const PIECE: usize = 64 << 10;

/// What is repeated without end, and before it what is said once. Frames go to the request's stream.
pub(super) struct Flood {
    pub name: &'static str,
    pub is_http2: bool,
    once: fn() -> Vec<u8>,
    again: fn() -> Vec<u8>,
}

const OK: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

/// The stream of the only request.
const STREAM: u32 = 1;

fn nothing() -> Vec<u8> {
    Vec::new()
}

/// `:status 200`, and the headers go on.
fn begun_headers() -> Vec<u8> {
    Frame::bytes(frame::HEADERS, 0, STREAM, &[0x88])
}

fn headers() -> Vec<u8> {
    Frame::bytes(frame::HEADERS, frame::END_HEADERS, STREAM, &[0x88])
}

pub(super) const FLOODS: &[Flood] = &[
    Flood {
        name: "interim",
        is_http2: false,
        once: nothing,
        again: || b"HTTP/1.1 102 Processing\r\n\r\n".to_vec(),
    },
    Flood {
        name: "header",
        is_http2: false,
        once: || OK[..17].into(),
        again: || b"x: y\r\n".to_vec(),
    },
    Flood {
        name: "body",
        is_http2: false,
        once: || OK.into(),
        again: || b"1\r\nx\r\n".to_vec(),
    },
    Flood {
        name: "trailers",
        is_http2: false,
        once: || [OK, "0\r\n"].concat().into(),
        again: || b"x: y\r\n".to_vec(),
    },
    Flood {
        name: "ping",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::PING, 0, 0, &[0; 8]),
    },
    Flood {
        name: "ping-ack",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::PING, frame::ACK, 0, &[0; 8]),
    },
    Flood {
        name: "window",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::WINDOW_UPDATE, 0, STREAM, &[0, 0, 0, 1]),
    },
    Flood {
        name: "priority",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::PRIORITY, 0, 3, &[0, 0, 0, 0, 1]),
    },
    Flood {
        name: "unknown",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(0xfa, 0, 0, b""),
    },
    Flood {
        name: "settings",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::SETTINGS, 0, 0, &[]),
    },
    Flood {
        name: "continuation",
        is_http2: true,
        once: begun_headers,
        again: || Frame::bytes(frame::CONTINUATION, 0, STREAM, &[]),
    },
    Flood {
        name: "empty-data",
        is_http2: true,
        once: headers,
        again: || Frame::bytes(frame::DATA, 0, STREAM, &[]),
    },
    Flood {
        name: "interim-2",
        is_http2: true,
        once: nothing,
        again: || Frame::bytes(frame::HEADERS, frame::END_HEADERS, STREAM, b"\x08\x03102"),
    },
];

impl Flood {
    pub(super) fn talk(&'static self, tls: Tls, stream: TcpStream) -> BoxFuture<'static, ()> {
        async move {
            let again = (self.again)();
            let piece = again.repeat(PIECE / again.len());
            if self.is_http2 {
                let Ok(mut peer) = tls.http2(stream).await else {
                    return;
                };
                let mut written = peer.request().await.map(drop);
                if written.is_ok() {
                    written = peer.write_raw(&(self.once)()).await;
                }
                while written.is_ok() {
                    written = peer.write_raw(&piece).await;
                }
            } else {
                let mut stream = stream;
                read_request(&mut stream).await;
                let mut written = stream.write_all(&(self.once)()).await;
                while written.is_ok() {
                    written = stream.write_all(&piece).await;
                }
            }
        }
        .boxed()
    }
}
