//! A receiver that speaks TLS and HTTP/2 frame by frame, and only as far as a test wants.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// What a client says first.
const PREFACE: usize = 24;

/// An empty answer with status 204, in HPACK.
const NO_CONTENT: &[u8] = &[0x89];

/// Kinds and flags of frames (RFC 9113).
pub mod frame {
    /// Kinds.
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;

    /// Flags.
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
}

/// A certificate for 127.0.0.1, which a worker trusts that has `SSL_CERT_FILE` set to its file.
#[derive(Clone)]
pub struct Tls {
    file: PathBuf,
    http1: TlsAcceptor,
    http2: TlsAcceptor,
}

impl Tls {
    /// Makes one and writes it to a file of this name in `folder`.
    ///
    /// # Panics
    /// When the folder cannot be written.
    pub fn new(folder: impl AsRef<Path>, name: &str) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]);
        let made = made.expect("an address is a subject");
        let file = folder.as_ref().join(format!("{name}.pem"));
        std::fs::write(&file, made.cert.pem()).expect("the folder can be written");
        let key = made.signing_key.serialize_der();
        let acceptor = |protocol: &[u8]| acceptor(made.cert.der().clone(), &key, protocol);
        Self {
            http1: acceptor(b"http/1.1"),
            http2: acceptor(b"h2"),
            file,
        }
    }

    /// Where the certificate is.
    ///
    /// # Panics
    /// When the folder's name is no text.
    pub fn file(&self) -> &str {
        self.file.to_str().expect("the build folder has a plain name")
    }

    /// Takes a connection over which HTTP/1 is spoken.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn http1(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.http1.accept(stream).await
    }

    /// Takes a connection over which HTTP/2 is spoken.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn http2(&self, stream: TcpStream) -> io::Result<Http2Peer> {
        let mut stream = self.http2.accept(stream).await?;
        let mut preface = [0; PREFACE];
        stream.read_exact(&mut preface).await?;
        let mut peer = Http2Peer { stream };
        peer.write(frame::SETTINGS, 0, 0, &[]).await?;
        Ok(peer)
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

fn acceptor(certificate: CertificateDer<'static>, key: &[u8], protocol: &[u8]) -> TlsAcceptor {
    let key = PrivateKeyDer::try_from(key.to_vec()).expect("it was just made");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring speaks them").with_no_client_auth();
    let mut config = config
        .with_single_cert(vec![certificate], key)
        .expect("the key is the certificate's");
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config).into()
}

/// A frame as it came.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Its kind.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream.
    pub stream: u32,
    /// The rest of it.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Whether it ends a request.
    pub fn ends_request(&self) -> bool {
        let may_end = matches!(self.kind, frame::DATA | frame::HEADERS);
        may_end && self.flags & frame::END_STREAM != 0
    }

    /// The bytes of one that is to be written.
    ///
    /// # Panics
    /// When it is longer than a frame can be.
    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len())
            .expect("a frame is short")
            .to_be_bytes();
        let mut bytes = length[1..].to_vec();
        bytes.extend([kind, flags]);
        bytes.extend(stream.to_be_bytes());
        bytes.extend(payload);
        bytes
    }
}

/// The end of a connection that a test has in hand.
#[derive(Debug)]
pub struct Http2Peer {
    stream: TlsStream<TcpStream>,
}

impl Http2Peer {
    /// The next frame.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn read(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [length @ .., kind, flags, _, _, _, _] = head;
        let [.., s0, s1, s2, s3] = head;
        let length = length
            .iter()
            .fold(0, |length, byte| length << 8 | usize::from(*byte));
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        Ok(Frame {
            kind,
            flags,
            stream,
            payload,
        })
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn write(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> io::Result<()> {
        self.write_raw(&Frame::bytes(kind, flags, stream, payload)).await
    }

    /// Writes bytes.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn write_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Confirms settings and pings, as every receiver does, until a request is there. Returns its stream.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn request(&mut self) -> io::Result<u32> {
        loop {
            let frame = self.read().await?;
            if frame.ends_request() {
                return Ok(frame.stream);
            }
            if frame.flags & frame::ACK == 0 && matches!(frame.kind, frame::SETTINGS | frame::PING) {
                let payload = if frame.kind == frame::PING {
                    frame.payload.as_slice()
                } else {
                    &[]
                };
                self.write(frame.kind, frame::ACK, 0, payload).await?;
            }
        }
    }

    /// Answers a request with 204.
    ///
    /// # Errors
    /// When the other end is gone.
    pub async fn answer(&mut self, stream: u32) -> io::Result<()> {
        let flags = frame::END_STREAM | frame::END_HEADERS;
        self.write(frame::HEADERS, flags, stream, NO_CONTENT).await
    }

    /// Answers all requests with 204 until the other end is gone.
    pub async fn answer_all(&mut self) {
        while let Ok(stream) = self.request().await {
            if self.answer(stream).await.is_err() {
                return;
            }
        }
    }
}
