//! Serving HTTP with the limits that `axum::serve` does not set: deadlines for request headers and for idle
//! connections, a cap on connections, and a bounded drain.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::CONNECTION;
use axum::http::{HeaderValue, Version};
use clap::Args;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::head_timeout::{Heads, Noting};

/// Request headers beyond this many bytes are refused with 431.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const HTTP2_MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Pause after a failed accept: it fails while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How long after the stop idle connections stay open. A client that is about to send its next request on one gets an
/// answer, which also says that the connection closes; one that is closed at that moment would be left without.
const LINGER: Duration = Duration::from_millis(500);

/// Limits on connections.
#[derive(Args, Clone, Debug)]
pub struct HttpServerConfig {
    /// Connections served at once; further ones wait in the listen queue.
    #[arg(long, env, value_name = "MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a connection may take to send the headers of a request.
    #[arg(long, env, value_name = "HEADER_TIMEOUT", default_value = "10s", value_parser = crate::config::nonzero_duration)]
    pub header_timeout: Duration,

    /// How long a connection may stay idle between two requests. Longer than a load balancer keeps its own, so that it is
    /// the one that closes them.
    #[arg(long, env, value_name = "IDLE_TIMEOUT", default_value = "75s", value_parser = humantime::parse_duration)]
    pub idle_timeout: Duration,
}

impl Default for HttpServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
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
        header_timeout: config.header_timeout,
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
    builder: auto::Builder<TokioExecutor>,
    graceful: GracefulShutdown,
    app: Router,
    stop: CancellationToken,
    header_timeout: Duration,
}

impl Connections {
    /// Serves a connection, which keeps `slot` until it ends.
    fn serve(&self, stream: TcpStream, slot: Option<OwnedSemaphorePermit>) {
        let heads = Heads::new();
        let (noted, stop) = (heads.clone(), self.stop.clone());
        let routes = TowerToHyperService::new(self.app.clone());
        let service = service_fn(move |request: Request<Incoming>| {
            let is_http1 = request.version() <= Version::HTTP_11;
            if is_http1 {
                noted.complete();
            } else {
                noted.complete_for_good();
            }
            let (answer, noted, stop) = (routes.call(request), noted.clone(), stop.clone());
            async move {
                let mut answer = answer.await?;
                noted.answered();
                // HTTP/2 has a message of its own for this.
                if is_http1 && stop.is_cancelled() {
                    let close = HeaderValue::from_static("close");
                    answer.headers_mut().insert(CONNECTION, close);
                }
                Ok::<_, Infallible>(answer)
            }
        });
        let stream = Noting {
            stream,
            heads: heads.clone(),
        };
        let connection = self.builder.serve_connection(TokioIo::new(stream), service);
        let connection = self.graceful.watch(connection.into_owned());
        let late = heads.late(self.header_timeout);
        #[expect(clippy::disallowed_methods, reason = "`graceful` tracks connections")]
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                },
                () = late => tracing::debug!("closed a connection that took too long to send a request's headers"),
            }
            drop(slot);
        });
    }
}

fn connection_builder(config: &HttpServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
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
    use tokio::io::AsyncReadExt as _;
    use tokio::io::AsyncWriteExt as _;
    use tokio::task::JoinSet;

    use super::*;

    const DRAIN: Duration = Duration::from_secs(2);

    async fn start(stop: CancellationToken) -> (std::net::SocketAddr, JoinSet<anyhow::Result<()>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let app = Router::new().fallback(|| async { "here" });
        let mut server = JoinSet::new();
        server.spawn(serve(listener, app, HttpServerConfig::default(), stop, DRAIN));
        (address, server)
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
        let (address, _server) = start(stop.clone()).await;
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
