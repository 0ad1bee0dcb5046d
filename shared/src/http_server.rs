//! Serving HTTP with the limits that `axum::serve` does not set: deadlines for request headers, for clients that do not
//! take their answers, or take them slowly, and for idle connections, a cap on connections, and a bounded drain.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use clap::Args;
use hyper::body::{Body as _, Incoming};
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::answer::{Answer, Streams};
pub use crate::leftover::Discard;
use crate::leftover::{Leftover, RequestBody};
use crate::progress::{Deadlines, Progress, WatchedStream};

/// Request headers beyond this many bytes are refused with 431.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const HTTP2_MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Pause after a failed accept: it fails while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long after the stop idle connections stay open. A client that is about to send its next request on one gets an
/// answer, which also says that the connection closes; one that is closed at that moment would be left without.
const LINGER: Duration = Duration::from_millis(500);

/// How long a client may take for an answer. Longer than connections may be idle, so that a slow client has more time than
/// one that does nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(120);

/// Limits on connections.
#[derive(Args, Clone, Debug)]
pub struct HttpServerConfig {
    /// Connections served at once; further ones wait in the listen queue.
    #[arg(long, env, value_name = "MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a connection may take to send the headers of a request, and how long it may take nothing of an answer.
    #[arg(long, env, value_name = "HEADER_TIMEOUT", default_value = "10s", value_parser = crate::config::nonzero_duration)]
    pub header_timeout: Duration,

    /// How long a connection may stay idle between two requests. Longer than a load balancer keeps its own, so that it is
    /// the one that closes them.
    #[arg(long, env, value_name = "IDLE_TIMEOUT", default_value = "75s", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,

    /// How long a client may take for an answer of more than 4 KiB. No setting.
    #[arg(skip = ANSWER_TIMEOUT)]
    pub answer_timeout: Duration,
}

impl HttpServerConfig {
    /// For sockets that operators use, and no producers.
    pub fn for_operations() -> Self {
        Self {
            max_connections: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            answer_timeout: ANSWER_TIMEOUT,
        }
    }
}

/// Serves `app` until `stop`; then lets clients go, closes idle connections and gives requests in progress `drain` to
/// finish.
///
/// # Errors
/// Never yet; it returns a result because it runs as a long-lived task.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    config: HttpServerConfig,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let slots = Arc::new(Semaphore::new(config.max_connections as usize));
    let connections = Connections {
        builder: connection_builder(&config),
        graceful: GracefulShutdown::new(),
        app,
        stop: stop.clone(),
        deadlines: Deadlines {
            patience: config.header_timeout,
            idle: config.idle_timeout,
            answer: config.answer_timeout,
        },
    };
    let linger = LINGER.min(drain);
    let mut closing = pin!(closing(&stop, linger));
    while let Some(stream) = accept(&listener, &stop, closing.as_mut()).await {
        // Taken after the accept, so that at the cap one connection waits here and the rest in the queue.
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot.ok(),
            () = stop.cancelled() => slots.clone().try_acquire_owned().ok(),
        };
        connections.serve(stream, slot);
    }
    drop(listener);
    let graceful = connections.graceful;
    let open = graceful.count();
    if open > 0 {
        tokio::time::sleep(linger).await;
    }
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(?drain, "closed connections whose requests did not finish in time");
    } else {
        tracing::debug!(open, "connections drained");
    }
    Ok(())
}

/// What each connection is served with.
struct Connections {
    builder: auto::Builder<Streams>,
    graceful: GracefulShutdown,
    app: Router,
    stop: CancellationToken,
    deadlines: Deadlines,
}

impl Connections {
    /// Serves a connection, which keeps `slot` until it ends.
    fn serve(&self, stream: TcpStream, slot: Option<OwnedSemaphorePermit>) {
        let (progress, deadlines) = (Progress::new(), self.deadlines);
        let (noted, stop) = (progress.clone(), self.stop.clone());
        let routes = TowerToHyperService::new(self.app.clone());
        let of_connection = Leftover::default();
        let service = service_fn(move |request: Request<Incoming>| {
            let is_http1 = request.version() <= Version::HTTP_11;
            let open = noted.request(is_http1);
            let has_body = is_http1 && !request.body().is_end_stream();
            let unread = has_body.then(|| (of_connection.clone(), Instant::now(), noted.clone()));
            let leftover = unread.as_ref().map(|(leftover, ..)| leftover.clone());
            let (answer, stop) = (routes.call(RequestBody::of(request, leftover)), stop.clone());
            async move {
                let mut answer = answer.await?;
                if let Some((leftover, begun, noted)) = unread
                    && let Some(body) = leftover.take()
                {
                    let discard = Discard::of(&answer, deadlines.patience);
                    let (open, stopped) = (noted.request(is_http1), stop.clone());
                    #[expect(clippy::disallowed_methods, reason = "it has a deadline")]
                    tokio::spawn(async move {
                        tokio::select! {
                            () = discard.read(body, begun) => {}
                            // Its answer is on its way; a stop does not wait longer for the rest.
                            () = closing(&stopped, deadlines.patience) => {}
                        }
                        drop(open);
                    });
                }
                // HTTP/2 has a message of its own for this.
                if is_http1 && stop.is_cancelled() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(answer.map(|body| Answer::new(body, open, deadlines.answer)))
            }
        });
        let stream = WatchedStream {
            stream,
            progress: progress.clone(),
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection.into_owned());
        let late = progress.late(deadlines);
        #[expect(clippy::disallowed_methods, reason = "`graceful` tracks connections")]
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                },
                () = late => tracing::debug!("closed a connection that took too long"),
            }
            drop(slot);
        });
    }
}

fn connection_builder(config: &HttpServerConfig) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams);
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.idle_timeout)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(config.header_timeout))
        .keep_alive_timeout(config.header_timeout)
        .max_header_list_size(HTTP2_MAX_HEADER_BYTES);
    builder
}

/// Ends so long after the stop.
async fn closing(stop: &CancellationToken, linger: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(linger).await;
}

/// The next connection; after the stop only those that are in the queue, where a client may have sent its request
/// already, and none after `closing`, which new ones could put off for ever.
async fn accept(
    listener: &TcpListener,
    stop: &CancellationToken,
    mut closing: Pin<&mut impl Future<Output = ()>>,
) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
            biased;
            () = closing.as_mut() => return None,
            accepted = listener.accept() => accepted,
            () = stop.cancelled() => return None,
        };
        match accepted {
            Ok((stream, _)) => {
                // Answers are small and complete: waiting to fill a segment only adds latency.
                let _ = stream.set_nodelay(true);
                return Some(stream);
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use axum::body::Bytes;
    use axum::routing::get;
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::task::JoinSet;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(2);

    /// Only a failing test takes this long.
    const PATIENCE: Duration = Duration::from_secs(10);

    /// Bytes of one answer.
    const MEDIUM: u32 = 200_000;

    /// How many of these there are.
    static MEDIUMS: AtomicU32 = AtomicU32::new(0);

    struct Medium(Vec<u8>);

    impl Medium {
        fn new() -> Self {
            MEDIUMS.fetch_add(1, Ordering::Relaxed);
            Self(vec![0; MEDIUM as usize])
        }
    }

    impl AsRef<[u8]> for Medium {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Medium {
        fn drop(&mut self) {
            MEDIUMS.fetch_sub(1, Ordering::Relaxed);
        }
    }

    async fn until_medium_is_free() {
        let free = async {
            while MEDIUMS.load(Ordering::Relaxed) > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let freed = tokio::time::timeout(PATIENCE, free).await;
        freed.expect("its memory is given back");
    }

    async fn start(
        config: HttpServerConfig,
        stop: CancellationToken,
    ) -> (std::net::SocketAddr, JoinSet<anyhow::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new()
            .route("/large", get(|| async { vec![0; 64 << 20] }))
            .route("/medium", get(|| async { Bytes::from_owner(Medium::new()) }))
            .fallback(|| async { "here" });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, app, config, stop, DRAIN));
        (address, server)
    }

    #[tokio::test]
    async fn a_client_that_does_not_take_its_answer_makes_room_for_the_next() {
        let config = HttpServerConfig {
            max_connections: 1,
            header_timeout: Duration::from_millis(200),
            ..HttpServerConfig::for_operations()
        };
        let (address, _server) = start(config, CancellationToken::new()).await;
        let mut first = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
        first.write_all(request).await.expect("it is open");
        let mut second = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        second.write_all(request).await.expect("it is open");
        let mut answer = [0; 15];
        let answered = tokio::time::timeout(PATIENCE, second.read_exact(&mut answer)).await;
        answered.expect("it had its turn").expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200 OK");
    }

    #[tokio::test]
    async fn a_client_that_takes_its_answer_too_slowly_makes_room_for_the_next() {
        let config = HttpServerConfig {
            max_connections: 1,
            header_timeout: Duration::from_secs(2),
            answer_timeout: Duration::from_millis(500),
            ..HttpServerConfig::for_operations()
        };
        let (address, _server) = start(config, CancellationToken::new()).await;
        let mut first = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
        first.write_all(request).await.expect("it is open");
        let steadily = async {
            let mut bytes = vec![0; 64 * 1024];
            while first.read(&mut bytes).await.is_ok_and(|length| length > 0) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, steadily).await;
        ended.expect("it is not sent to its end, which would take as long");
        let mut second = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        second.write_all(request).await.expect("it is open");
        let mut answer = [0; 15];
        let answered = tokio::time::timeout(PATIENCE, second.read_exact(&mut answer)).await;
        answered.expect("it had its turn").expect("an answer");
    }

    // Types of HTTP/2 frames, and a flag.
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const RESET: u8 = 3;
    const END: u8 = 1;

    /// The beginning of an HTTP/2 connection whose streams may be sent this many bytes.
    fn http2_preface(window: u32) -> Vec<u8> {
        let settings = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04\0\0\0\0\0\0\x04";
        [&settings[..], &window.to_be_bytes()].concat()
    }

    /// `GET` of a path of less than 128 bytes.
    fn http2_request(stream: u8, path: &str) -> Vec<u8> {
        let length = u8::try_from(path.len()).expect("it is short");
        let head = [b"\x82\x86\x04", &[length][..], path.as_bytes(), b"\x41\x01x"].concat();
        let length = u8::try_from(head.len()).expect("it is short");
        [&[0, 0, length, 1, 5, 0, 0, 0, stream][..], &head].concat()
    }

    fn window_update(stream: u8, bytes: u32) -> Vec<u8> {
        [&[0, 0, 4, 8, 0, 0, 0, 0, stream][..], &bytes.to_be_bytes()].concat()
    }

    /// The next frame that is not about the connection: its type, its flags, its stream and what is in it. Pings are
    /// answered. Nothing at the end of the connection.
    async fn next_frame(client: &mut TcpStream) -> Option<(u8, u8, u8, Vec<u8>)> {
        loop {
            let mut head = [0; 9];
            client.read_exact(&mut head).await.ok()?;
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            client.read_exact(&mut payload).await.expect("a whole frame");
            match (head[3], head[4]) {
                (6, 0) => {
                    head[4] = 1;
                    let _ = client.write_all(&[&head[..], &payload].concat()).await;
                }
                (kind, flags) if head[8] != 0 => return Some((kind, flags, head[8], payload)),
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn an_http2_answer_may_take_longer_than_its_connection_may_be_idle() {
        let config = HttpServerConfig {
            idle_timeout: Duration::from_secs(1),
            ..HttpServerConfig::for_operations()
        };
        let (address, _server) = start(config, CancellationToken::new()).await;
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let begin = [http2_preface(MEDIUM / 12), http2_request(1, "/medium")].concat();
        client.write_all(&begin).await.expect("it is open");
        let (sent_at, mut taken) = (Instant::now(), 0);
        loop {
            let frame = tokio::time::timeout(PATIENCE, next_frame(&mut client)).await;
            let frame = frame.expect("it goes on");
            let (kind, flags, _, payload) =
                frame.unwrap_or_else(|| panic!("it was closed after {taken} bytes"));
            if kind != DATA {
                continue;
            }
            let length = u32::try_from(payload.len()).expect("a frame is short");
            taken += length;
            if flags & END == END {
                break;
            }
            // It is slow, but not idle.
            tokio::time::sleep(Duration::from_millis(250)).await;
            let more = [window_update(0, length), window_update(1, length)].concat();
            client.write_all(&more).await.expect("it is open");
        }
        assert_eq!(taken, MEDIUM);
        assert!(sent_at.elapsed() > Duration::from_secs(2), "it took long enough");
    }

    #[tokio::test]
    async fn an_http2_answer_that_is_not_taken_is_given_up_and_its_connection_serves_others() {
        let config = HttpServerConfig {
            answer_timeout: Duration::from_millis(300),
            ..HttpServerConfig::for_operations()
        };
        let (address, _server) = start(config, CancellationToken::new()).await;
        // None of it fits, some of it, and all but the last byte.
        for window in [0, 1_000, MEDIUM - 1] {
            let mut client = TcpStream::connect(address).await.expect("it listens");
            let begin = [
                http2_preface(window),
                window_update(0, MEDIUM),
                http2_request(1, "/medium"),
            ];
            client.write_all(&begin.concat()).await.expect("it is open");
            let until = async |client: &mut TcpStream, wanted: (u8, u8)| {
                while let Some((kind, _, stream, _)) = next_frame(client).await {
                    if (kind, stream) == wanted {
                        return;
                    }
                }
                panic!("the connection was closed before {wanted:?}");
            };
            let reset = tokio::time::timeout(PATIENCE, until(&mut client, (RESET, 1))).await;
            reset.expect("its stream is reset");
            until_medium_is_free().await;
            client
                .write_all(&http2_request(3, "/"))
                .await
                .expect("it is open");
            let answered = tokio::time::timeout(PATIENCE, until(&mut client, (HEADERS, 3))).await;
            answered.expect("an answer");
        }
    }

    #[tokio::test]
    async fn an_http2_connection_without_requests_is_closed_although_it_answers_pings() {
        const REQUEST: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\
            \0\0\0\x04\0\0\0\0\0\
            \0\0\x06\x01\x05\0\0\0\x01\x82\x86\x84\x41\x01x";
        let config = HttpServerConfig {
            header_timeout: Duration::from_millis(100),
            idle_timeout: Duration::from_millis(500),
            ..HttpServerConfig::for_operations()
        };
        let (address, _server) = start(config, CancellationToken::new()).await;
        let mut client = TcpStream::connect(address).await.expect("it listens");
        client.write_all(REQUEST).await.expect("it is open");
        let until_closed = async {
            let (mut answers, mut pings) = (0, 0);
            let mut head = [0; 9];
            while client.read_exact(&mut head).await.is_ok() {
                let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
                let mut payload = vec![0; length as usize];
                client.read_exact(&mut payload).await.expect("a whole frame");
                match (head[3], head[4]) {
                    (1, _) => answers += 1,
                    (6, 0) => {
                        pings += 1;
                        head[4] = 1;
                        let _ = client.write_all(&[&head[..], &payload].concat()).await;
                    }
                    _ => {}
                }
            }
            (answers, pings)
        };
        let (answers, pings) = tokio::time::timeout(PATIENCE, until_closed)
            .await
            .expect("it is closed");
        assert!(answers == 1 && pings > 0, "{answers} answers, {pings} pings");
    }

    #[tokio::test]
    async fn after_the_stop_only_the_queue_is_accepted_and_not_for_ever() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let stop = CancellationToken::new();
        stop.cancel();
        let _first = TcpStream::connect(address).await.expect("it listens");
        let accepted = accept(&listener, &stop, pin!(std::future::pending())).await;
        assert!(accepted.is_some(), "it was in the queue");
        assert!(
            accept(&listener, &stop, pin!(std::future::pending()))
                .await
                .is_none()
        );
        let _second = TcpStream::connect(address).await.expect("it listens");
        let accepted = accept(&listener, &stop, pin!(std::future::ready(()))).await;
        assert!(accepted.is_none(), "it came too late");
    }

    #[tokio::test]
    async fn an_idle_client_that_sends_after_the_stop_is_answered_and_let_go() {
        let stop = CancellationToken::new();
        let (address, _server) = start(HttpServerConfig::for_operations(), stop.clone()).await;
        let mut client = TcpStream::connect(address).await.expect("it listens");
        let request = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        client.write_all(request).await.expect("it is open");
        let mut answer = [0; 1_024];
        let length = client.read(&mut answer).await.expect("an answer");
        assert!(!String::from_utf8_lossy(&answer[..length]).contains("connection: close"));
        stop.cancel();
        client.write_all(request).await.expect("it is open");
        let mut rest = String::new();
        client
            .read_to_string(&mut rest)
            .await
            .expect("an answer, and the end");
        assert!(
            rest.starts_with("HTTP/1.1 200") && rest.contains("connection: close"),
            "{rest}"
        );
    }
}
