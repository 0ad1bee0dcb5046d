//! Serving HTTP with the limits that `axum::serve` does not set: a deadline for request headers, a cap on
//! connections, and a bounded drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use clap::Args;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

/// Request headers beyond this many bytes are refused with 431.
const MAX_HEADER_BYTES: usize = 64 * 1024;
const HTTP2_MAX_HEADER_BYTES: u32 = 64 * 1024;

/// Pause after a failed accept: it fails while the process is out of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Limits on connections.
#[derive(Args, Clone, Debug)]
pub struct HttpServerConfig {
    /// Connections served at once; further ones wait in the listen queue.
    #[arg(long, env, value_name = "MAX_CONNECTIONS", default_value_t = 10_000,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_connections: u32,

    /// How long a connection may take to send its request headers, or stay idle between two requests.
    #[arg(long, env, value_name = "HEADER_TIMEOUT", default_value = "10s", value_parser = humantime::parse_duration)]
    pub header_timeout: Duration,
}

impl Default for HttpServerConfig {
    fn default() -> Self {
        Self {
            max_connections: 100,
            header_timeout: Duration::from_secs(10),
        }
    }
}

/// Serves `app` until `stop`; then closes idle connections and gives requests in progress `drain` to finish.
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
    let builder = connection_builder(&config);
    let slots = Arc::new(Semaphore::new(config.max_connections as usize));
    let graceful = GracefulShutdown::new();
    while let Some(stream) = accept(&listener, &stop).await {
        // Taken after the accept, so that at the cap one connection waits here and the rest in the queue.
        let slot = tokio::select! {
            slot = slots.clone().acquire_owned() => slot,
            () = stop.cancelled() => break,
        };
        let requested = Arc::new(AtomicBool::new(false));
        let (noted, routes) = (requested.clone(), TowerToHyperService::new(app.clone()));
        let service = service_fn(move |request: Request<Incoming>| {
            noted.store(true, Ordering::Relaxed);
            routes.call(request)
        });
        let connection = builder
            .serve_connection(TokioIo::new(stream), service)
            .into_owned();
        let connection = graceful.watch(connection);
        let silence = silence(requested, config.header_timeout);
        #[expect(clippy::disallowed_methods, reason = "`graceful` tracks connections")]
        tokio::spawn(async move {
            tokio::select! {
                ended = connection => if let Err(error) = ended {
                    tracing::debug!(error, "connection ended");
                },
                () = silence => tracing::debug!("closed a connection that made no request"),
            }
            drop(slot);
        });
    }
    drop(listener);
    let open = graceful.count();
    if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
        tracing::warn!(?drain, "closed connections whose requests did not finish in time");
    } else {
        tracing::debug!(open, "connections drained");
    }
    Ok(())
}

/// Ends when a connection has made no request in time. The builder's own deadline for headers begins when it
/// knows the version of HTTP; a client that says nothing, or half of HTTP/2's greeting, never gets there.
async fn silence(requested: Arc<AtomicBool>, timeout: Duration) {
    tokio::time::sleep(timeout).await;
    if requested.load(Ordering::Relaxed) {
        std::future::pending::<()>().await;
    }
}

fn connection_builder(config: &HttpServerConfig) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(config.header_timeout)
        .max_buf_size(MAX_HEADER_BYTES);
    builder
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Some(config.header_timeout))
        .keep_alive_timeout(config.header_timeout)
        .max_header_list_size(HTTP2_MAX_HEADER_BYTES);
    builder
}

/// The next connection, or nothing after the stop.
async fn accept(listener: &TcpListener, stop: &CancellationToken) -> Option<TcpStream> {
    loop {
        let accepted = tokio::select! {
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
