//! Serving HTTP with the limits that `axum::serve` does not set: deadlines for request headers, for clients that do not
//! take their answers, or take them slowly, and for idle connections, a cap on connections, and a bounded drain.
//!
//! Imports `process`.

pub mod rules;
mod limits;
mod deadlines;
mod frame_meter;
mod bare_refusal;
mod answer_body;
mod unread_body;
pub mod metrics_server;

use std::convert::Infallible;
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Response, Version};
use futures_util::FutureExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::Service as _;

use crate::server::answer_body::{Answer, Streams};
use crate::server::deadlines::{Deadlines, Progress, WatchedStream};
pub use crate::server::limits::{HttpServerConfig, Limits, Slots};
pub use crate::server::unread_body::Discard;
use crate::server::unread_body::{Leftover, RequestBody};

/// Request headers beyond this many bytes are refused with 431.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const HTTP2_MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Pause after a failed accept: it fails while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long after the stop idle connections stay open. A client that is about to send its next request on one gets an
/// answer, which also says that the connection closes; one that is closed at that moment would be left without.
const LINGER: Duration = Duration::from_millis(500);

/// How much longer they stay open after that. A process that stood still meanwhile has not read what came on them.
const LAST_LOOK: Duration = Duration::from_millis(50);

/// Serves `app` until `stop`; then lets clients go, closes idle connections and gives requests in progress `drain` to
/// finish.
///
/// # Errors
/// Never yet; it returns a result because it runs as a long-lived task.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    stop: CancellationToken,
    drain: Duration,
) -> anyhow::Result<()> {
    let Limits { config, slots } = limits;
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
            slot = slots.free.clone().acquire_owned() => slot.ok(),
            () = stop.cancelled() => slots.free.clone().try_acquire_owned().ok(),
        };
        connections.serve(stream, slot);
    }
    drop(listener);
    let graceful = connections.graceful;
    let open = graceful.count();
    if open > 0 {
        tokio::time::sleep(linger).await;
        tokio::time::sleep(LAST_LOOK.min(drain)).await;
    }
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(?drain, "closed connections whose requests did not finish in time");
    } else {
        tracing::debug!(open, "connections drained");
    }
    Ok(())
}

/// Where and when a request came, as an extension of it.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// The address that its connection comes from. It may be a proxy's.
    pub peer: Option<IpAddr>,
    /// When its head was read.
    pub at: Instant,
}

/// The settings that each connection is served with.
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
        let progress = Progress::new();
        let served = Arc::new(Served {
            app: self.app.clone(),
            progress: progress.clone(),
            leftover: Leftover::default(),
            peer: stream.peer_addr().ok().map(|address| address.ip()),
            stop: self.stop.clone(),
            deadlines: self.deadlines,
        });
        let service = service_fn(move |request| served.clone().answer(request));
        let stream = WatchedStream::new(stream, progress.clone());
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection.into_owned());
        // No async block: it would hold this future twice, and look at both ends of that memory with each poll.
        let connection = connection.map(move |ended| {
            if let Err(error) = ended {
                tracing::debug!(error, "connection ended");
            }
            drop(slot);
        });
        #[expect(clippy::disallowed_methods, reason = "`graceful` tracks connections")]
        let serving = tokio::spawn(connection);
        let (late, connection) = (progress.late(self.deadlines), serving.abort_handle());
        // A task of its own: that of the connection is polled several times for each request.
        #[expect(clippy::disallowed_methods, reason = "it ends with the connection")]
        tokio::spawn(async move {
            tokio::select! {
                _ = serving => {}
                () = late => {
                    connection.abort();
                    tracing::debug!("closed a connection that took too long");
                }
            }
        });
    }
}

/// What the requests of one connection share.
struct Served {
    app: Router,
    progress: Progress,
    leftover: Leftover,
    peer: Option<IpAddr>,
    stop: CancellationToken,
    deadlines: Deadlines,
}

impl Served {
    /// Answers a request whose head has just arrived.
    fn answer(
        self: Arc<Self>,
        mut request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<Answer>, Infallible>> {
        let arrival = Arrival {
            peer: self.peer,
            at: Instant::now(),
        };
        request.extensions_mut().insert(arrival);
        let is_http1 = request.version() <= Version::HTTP_11;
        let open = self.progress.request(is_http1);
        let has_body = is_http1 && !request.body().is_end_stream();
        let begun = has_body.then_some(arrival.at);
        let leftover = has_body.then(|| self.leftover.clone());
        // A router is always ready.
        let answer = self.app.clone().call(RequestBody::of(request, leftover));
        // No async block: it would hold this future twice, and hyper moves what it gets.
        answer.map(move |answer| {
            let Ok(mut answer) = answer;
            if let Some(begun) = begun
                && let Some(body) = self.leftover.take()
            {
                let discard = Discard::of(&answer, self.deadlines.patience);
                self.clone().discard(body, begun, discard);
            }
            // HTTP/2 has a message of its own for this.
            if is_http1 && self.stop.is_cancelled() {
                let close = HeaderValue::from_static("close");
                answer.headers_mut().insert(CONNECTION, close);
            }
            Ok(answer.map(|body| Answer::new(body, open, self.deadlines.answer)))
        })
    }

    /// Reads what a handler has left of an HTTP/1 request's body.
    fn discard(self: Arc<Self>, body: Incoming, begun: Instant, discard: Discard) {
        let open = self.progress.request(true);
        #[expect(clippy::disallowed_methods, reason = "it has a deadline")]
        tokio::spawn(async move {
            tokio::select! {
                () = discard.read(body, begun) => {}
                // Its answer is on its way; a stop does not wait longer for the rest.
                () = closing(&self.stop, self.deadlines.patience) => {}
            }
            drop(open);
        });
    }
}

fn connection_builder(config: &HttpServerConfig) -> auto::Builder<Streams> {
    let mut builder = auto::Builder::new(Streams);
    builder
        .http1()
        .header_read_timeout(None::<Duration>)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(config.header_timeout))
        .keep_alive_timeout(config.header_timeout)
        .max_header_list_size(HTTP2_MAX_HEADER_BYTES);
    builder
}

/// Ends this long after the stop.
async fn closing(stop: &CancellationToken, linger: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(linger).await;
}

/// The next connection. After the stop it comes only from the queue, where a client may have sent its request already.
/// After `closing` there is none: new connections could put off the end for ever.
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
mod tests;
