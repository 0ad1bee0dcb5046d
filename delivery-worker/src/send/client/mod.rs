//! The HTTP client that sends webhooks.
//!
//! It stands on hyper's connections and has a pool of its own. Neither reqwest nor hyper-util's `Client` can do what
//! receivers make necessary: count and slow down what comes on a connection, from TLS up; close a connection at once, also
//! one that hyper still reads; repeat a request on a connection that is surely new; limit idle connections in all.

mod allowance;
mod connect;
mod dialable;
mod failure;
mod identity;
mod proxy;
mod request;
mod keep_alive;
mod line;
mod socket;
mod hosts;
mod pool;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::header::HeaderMap;
use hyper::rt::Executor as _;
use hyper::{Response, StatusCode, Uri};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use shared::egress::EgressConfig;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use url::Position;

use self::connect::{Connection, Connector};
pub(crate) use self::failure::Failure;
use self::hosts::Sender;
pub(crate) use self::identity::Identity;
use self::line::Line;
use self::pool::{Pool, Use};
pub(crate) use self::proxy::EgressProxy;
pub(crate) use self::request::Outbound;
use self::request::{http1_request, request};
use crate::send::lookups::Lookups;

/// Largest head of an answer. Python takes 64 KiB a line, Node 16 KiB in all.
const MAX_HEAD_BYTES: usize = 128 * 1024;

/// The same over HTTP/2, and what may arrive of an answer, and of all answers of a connection, before it is read. Only the
/// first bytes ever are.
const HTTP2_HEAD_BYTES: u32 = 64 * 1024;
const HTTP2_STREAM_WINDOW: u32 = 16 * 1024;
const HTTP2_CONNECTION_WINDOW: u32 = 1024 * 1024;

/// While a request is under way and nothing comes, an HTTP/2 connection is asked whether it is alive, and has so long to
/// answer. One that does not is left, and its requests are sent again on a new one.
const PING_INTERVAL: Duration = Duration::from_secs(2);
const PING_TIMEOUT: Duration = Duration::from_secs(3);

/// How often idle connections are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// Sends requests over connections that it keeps.
pub(crate) struct Client {
    connector: Connector,
    pool: Arc<Pool>,
    http1: http1::Builder,
    http2: http2::Builder<TokioExecutor>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// The head of an answer, and the connection that its body comes on.
pub(crate) struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body; none when its head is malformed.
    pub body: Option<Incoming>,
    connection: Use,
}

impl Answer {
    /// Lets the connection be used again. To be called when the body has been read to its end.
    pub(crate) fn complete(self) {
        if let Some(keep) = keep_alive::time(&self.headers) {
            self.connection.release(keep.min(pool::IDLE_TIMEOUT));
        }
    }

    /// The rest of the body is not wanted. Over HTTP/2 only its stream ends.
    pub(crate) fn cut(mut self) {
        if matches!(self.connection.sender(), Some(Sender::Http2(_))) {
            self.connection.release(pool::IDLE_TIMEOUT);
        }
    }
}

impl Client {
    /// Connects through `proxy` if there is one. Keeps at most `most_idle` connections that nobody uses.
    ///
    /// # Errors
    /// When the system has no trusted certificates.
    pub(crate) fn new(
        egress: &EgressConfig,
        proxy: Option<&EgressProxy>,
        lookups: Lookups,
        most_idle: usize,
    ) -> anyhow::Result<Self> {
        let mut http1 = http1::Builder::new();
        // What curl, Python and Node read is read.
        http1
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .max_buf_size(MAX_HEAD_BYTES);
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(PING_INTERVAL)
            .keep_alive_timeout(PING_TIMEOUT)
            .max_header_list_size(HTTP2_HEAD_BYTES)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW);
        Ok(Self {
            connector: Connector::new(egress, proxy, lookups)?,
            pool: Pool::new(most_idle),
            http1,
            http2,
        })
    }

    /// Closes connections that were idle for long enough, until the stop.
    ///
    /// # Errors
    /// Never; it is the form of a long-lived task.
    pub(crate) async fn close_idle(self: Arc<Self>, stop: CancellationToken) -> anyhow::Result<()> {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        while stop.run_until_cancelled(tick.tick()).await.is_some() {
            self.pool.close_expired();
        }
        self.pool.close_idle();
        Ok(())
    }

    /// Makes a request. Where a kept connection breaks before any byte of an answer, or the receiver says that it has not
    /// begun, the request is made once more at once on a new connection: it is the same attempt.
    ///
    /// # Errors
    /// When no answer's head came.
    pub(crate) async fn send(&self, outbound: Outbound<'_>) -> Result<Answer, Failure> {
        let uri: Uri = outbound.url.as_str().parse().map_err(Failure::Address)?;
        let began = Instant::now();
        match self.send_once(&outbound, &uri, None).await {
            Err(Tried::Again(_)) => {}
            Err(Tried::Failed(failure)) => return Err(failure),
            Ok(answer) if answer.status == StatusCode::REQUEST_TIMEOUT && answer.connection.is_reused => {
                // A receiver says so, unasked, on an idle connection that it closes.
                drop(answer);
            }
            Ok(answer) => return Ok(answer),
        }
        let again = self.send_once(&outbound, &uri, Some(began)).await;
        again.map_err(|(Tried::Again(failure) | Tried::Failed(failure))| failure)
    }

    async fn send_once(
        &self,
        outbound: &Outbound<'_>,
        uri: &Uri,
        opened: Option<Instant>,
    ) -> Result<Answer, Tried> {
        let mut host = Cow::Borrowed(&outbound.url[..Position::BeforePath]);
        if let Some(identity) = outbound.identity {
            // No other request goes over its connections.
            host = format!("{host} {}", identity.number).into();
        }
        let mut connection = if let Some(connection) = self.pool.take(&host, opened) {
            connection
        } else {
            let line = Line::new();
            let connected = self.connector.connect(uri, &line, outbound.identity).await;
            let connection = connected.map_err(|cause| Tried::Failed(Failure::connect(cause, &line)))?;
            let sender = self.greet(connection).await.map_err(Tried::Failed)?;
            self.pool.insert(&host, line, sender, opened)
        };
        let line = connection.line.clone();
        let sent = match connection.sender() {
            Some(Sender::Http1(sender)) => sender.send_request(http1_request(outbound, uri, &line)).await,
            Some(Sender::Http2(sender)) => sender.send_request(request(outbound, uri.clone())).await,
            None => return Err(Tried::Failed(Failure::Gone)),
        };
        match sent {
            Ok(answer) => Ok(head_of(answer, connection)),
            Err(error) if error.is_parse() && !error.is_parse_too_large() => malformed(error, connection),
            Err(error) => Err(judge(error, connection)),
        }
    }

    /// Begins with HTTP on a connection.
    async fn greet(&self, connection: Connection) -> Result<Sender, Failure> {
        let Connection { socket, is_http2 } = connection;
        let socket = TokioIo::new(socket);
        if is_http2 {
            let (sender, connection) = self.http2.handshake(socket).await.map_err(Failure::Http)?;
            run(connection);
            Ok(Sender::Http2(sender))
        } else {
            let (sender, connection) = self.http1.handshake(socket).await.map_err(Failure::Http)?;
            run(connection);
            Ok(Sender::Http1(sender))
        }
    }
}

/// What is malformed has a status all the same, if its first line says so. The rest is not read.
fn malformed(error: hyper::Error, connection: Use) -> Result<Answer, Tried> {
    match connection.line.status() {
        Some(status) => Ok(Answer {
            status,
            headers: HeaderMap::new(),
            body: None,
            connection,
        }),
        None => Err(judge(error, connection)),
    }
}

/// Whether a request may be made again at once.
enum Tried {
    Again(Failure),
    Failed(Failure),
}

fn judge(error: hyper::Error, mut connection: Use) -> Tried {
    if let Some(reason) = connection.line.misbehaviour() {
        return Tried::Failed(Failure::Misbehaviour(reason));
    }
    let is_of_stream = failure::is_of_stream(&error);
    let is_http2 = matches!(connection.sender(), Some(Sender::Http2(_)));
    // Of HTTP/2's frames most are not of this request; the head of its answer did not come.
    let broke = connection.is_reused && !is_of_stream && (is_http2 || connection.has_heard_nothing());
    let again = broke || failure::was_refused(&error);
    if is_of_stream {
        connection.release(pool::IDLE_TIMEOUT);
    }
    let failure = Failure::Http(error);
    if again {
        Tried::Again(failure)
    } else {
        Tried::Failed(failure)
    }
}

/// Reads and writes a connection until it is closed. What breaks it is told to its requests.
fn run(connection: impl Future<Output = hyper::Result<()>> + Send + 'static) {
    TokioExecutor::new().execute(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%error, "a connection to a receiver has ended");
        }
    });
}

fn head_of(answer: Response<Incoming>, connection: Use) -> Answer {
    let (head, body) = answer.into_parts();
    Answer {
        status: head.status,
        headers: head.headers,
        body: Some(body),
        connection,
    }
}
