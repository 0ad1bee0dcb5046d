//! The connection to NATS.

pub(super) mod credentials;

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use anyhow::Context as _;
use async_nats::connection::State;
use async_nats::jetstream::context::{AccountErrorKind, ContextBuilder};
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::credentials::Credentials;
pub use self::credentials::NatsConfig;
use crate::process::telemetry::{self, Readiness};

/// How long one request to JetStream's API may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

/// How often the server is asked whether it is there. At the third silence the connection is given up: a server of a
/// cluster that hangs, or whose network is gone, is left for another one after about three seconds.
const PING_INTERVAL: Duration = Duration::from_secs(1);

/// The longest pause between two attempts to reconnect.
const MAX_RECONNECT_DELAY: Duration = Duration::from_millis(500);

/// How often the connection is looked at, for the readiness, while the client tells of no change.
const CONNECTION_CHECK: Duration = Duration::from_secs(1);

/// How soon whoever was told of a change looks again: the client tells of one a moment before it has happened.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The readiness condition that [`Nats::watch`] keeps.
pub const NATS_CONNECTED: &str = "NATS connection";

/// A connection that comes back by itself.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The client; it queues commands while the connection is away.
    pub client: Client,
    connections: Connections,
    changes: Changes,
}

/// Tells of new connections. Each means that whatever was in flight may have been lost.
#[derive(Clone, Debug)]
pub struct Connections(watch::Receiver<u64>);

impl Connections {
    /// Waits for a connection that was not seen yet. When the client is gone there are none any more, and it waits for ever.
    pub async fn changed(&mut self) {
        next_of(&mut self.0).await;
    }

    /// Marks the last connection as not seen.
    pub fn mark_changed(&mut self) {
        self.0.mark_changed();
    }

    /// Marks the last connection as seen.
    pub fn mark_unchanged(&mut self) {
        self.0.mark_unchanged();
    }
}

/// Tells when a connection was made or lost.
#[derive(Clone, Debug)]
pub struct Changes(watch::Receiver<()>);

impl Changes {
    /// Waits for a change that was not seen yet. It is told a moment before [`Nats::is_connected`] shows it.
    pub async fn next(&mut self) {
        next_of(&mut self.0).await;
    }
}

/// One connection among all that a client makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The server's process: a server that starts again has another id.
    server: String,
    /// The connection's number there.
    client: u64,
}

impl Nats {
    /// Starts connecting and returns at once, so that a service can start before NATS does.
    ///
    /// # Errors
    /// When the URL or the credentials cannot be read.
    pub async fn connect(config: &NatsConfig, client_name: &str) -> anyhow::Result<Self> {
        let (notes, connections, changes) = Notes::new();
        let servers: Vec<ServerAddr> = config
            .nats_url
            .split(',')
            .map(|url| url.trim().parse())
            .collect::<Result<_, _>>()
            .context("NATS_URL is not a list of NATS URLs")?;
        let credentials = Credentials::new(config, &servers)?;
        let answer = move |nonce: Vec<u8>| std::future::ready(credentials.answer(&nonce));
        let options = ConnectOptions::with_auth_callback(answer)
            .name(client_name)
            .retry_on_initial_connect()
            .connection_timeout(Duration::from_secs(2))
            .ping_interval(PING_INTERVAL)
            .reconnect_delay_callback(reconnect_delay)
            .event_callback(move |event| {
                notes.take(&event, log);
                std::future::ready(())
            });
        let client = options.connect(servers).await.context("cannot connect to NATS")?;
        Ok(Self {
            client,
            connections,
            changes,
        })
    }

    /// The JetStream API over this connection.
    pub fn jetstream(&self) -> jetstream::Context {
        ContextBuilder::new()
            .timeout(REQUEST_TIMEOUT)
            .build(self.client.clone())
    }

    /// Whether the connection is up.
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    /// Whether the server answers a request to JetStream's API, be it with an error. A cluster without a leader does not:
    /// it elects one, or waits for more of its servers.
    pub async fn answers(&self) -> bool {
        let Err(error) = self.jetstream().query_account().await else {
            return true;
        };
        match error.kind() {
            AccountErrorKind::JetStream(error) => error.error_code() != ErrorCode::CLUSTER_NOT_AVAILABLE,
            AccountErrorKind::JetStreamUnavailable => true,
            AccountErrorKind::TimedOut | AccountErrorKind::Other => false,
        }
    }

    /// The current connection; `None` while there is none. A message of an earlier connection may mean something else
    /// by now: a server that lost its streams uses their sequence numbers again.
    pub fn connection(&self) -> Option<Connection> {
        let server = self.client.server_info();
        self.is_connected().then_some(Connection {
            server: server.server_id,
            client: server.client_id,
        })
    }

    /// Tells of the connections that are made from now on, and perhaps of the last one before.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// Tells of the connections that are made and lost from now on, and perhaps of one that was before.
    pub fn changes(&self) -> Changes {
        self.changes.clone()
    }

    /// Waits until the connection is up. `connections` then tells of those that are made later; it may tell of this one too.
    pub async fn until_connected(&self, connections: &mut Connections) {
        until_up(connections, || self.is_connected()).await;
    }

    /// Keeps the readiness in step with the connection, until the stop.
    ///
    /// # Errors
    /// Never; it returns a result because it runs as a long-lived task.
    pub async fn watch(self, readiness: Readiness, stop: CancellationToken) -> anyhow::Result<()> {
        let (mut changes, mut pause) = (self.changes(), LOOK_AGAIN);
        loop {
            let is_connected = self.is_connected();
            readiness.set(NATS_CONNECTED, is_connected);
            telemetry::set_dependency(telemetry::NATS, is_connected);
            tokio::select! {
                () = changes.next() => pause = LOOK_AGAIN,
                () = tokio::time::sleep(pause) => pause = CONNECTION_CHECK,
                () = stop.cancelled() => return Ok(()),
            }
        }
    }
}

async fn until_up(connections: &mut Connections, is_up: impl Fn() -> bool) {
    connections.mark_unchanged();
    while !is_up() {
        let _ = timeout(LOOK_AGAIN, connections.changed()).await;
    }
}

fn reconnect_delay(attempts: usize) -> Duration {
    let attempts = u32::try_from(attempts).unwrap_or(u32::MAX);
    Duration::from_millis(25)
        .saturating_mul(attempts)
        .min(MAX_RECONNECT_DELAY)
}

async fn next_of<T>(receiver: &mut watch::Receiver<T>) {
    if receiver.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// Where the client's events are noted.
struct Notes {
    connected: watch::Sender<u64>,
    changed: watch::Sender<()>,
}

impl Notes {
    fn new() -> (Self, Connections, Changes) {
        let (connected, connections) = watch::channel(0);
        let (told, changes) = watch::channel(());
        let notes = Self {
            connected,
            changed: told,
        };
        (notes, Connections(connections), Changes(changes))
    }

    /// Notes an event. It must not panic: the client would then report no further connections.
    fn take(&self, event: &Event, log: impl FnOnce(&Event)) {
        if matches!(event, Event::Connected) {
            self.connected.send_modify(|count| *count += 1);
        }
        if matches!(event, Event::Connected | Event::Disconnected) {
            self.changed.send_replace(());
        }
        let _ = std::panic::catch_unwind(AssertUnwindSafe(|| log(event)));
    }
}

fn log(event: &Event) {
    match event {
        Event::Connected => tracing::info!("connected to NATS"),
        Event::Disconnected => tracing::warn!("connection to NATS lost, reconnecting"),
        Event::Closed => tracing::info!("connection to NATS closed"),
        Event::ClientError(error) => tracing::debug!(%error, "NATS client error"),
        other => tracing::warn!(event = %other, "NATS event"),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn a_connection_and_its_loss_are_noticed_although_logging_them_panics() {
        let (notes, mut connections, mut changes) = Notes::new();
        for _ in 0..2 {
            notes.take(&Event::Connected, |_| panic!("out of luck"));
            assert!(connections.changed().now_or_never().is_some());
            assert!(changes.next().now_or_never().is_some());
        }
        notes.take(&Event::Disconnected, |_| panic!("out of luck"));
        assert!(connections.changed().now_or_never().is_none());
        assert!(changes.next().now_or_never().is_some());
        notes.take(&Event::LameDuckMode, |_| {});
        assert!(changes.next().now_or_never().is_none());
    }

    #[test]
    fn a_client_that_is_gone_makes_no_new_connections() {
        let (notes, mut connections, mut changes) = Notes::new();
        drop(notes);
        assert!(connections.changed().now_or_never().is_none());
        assert!(changes.next().now_or_never().is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_is_told_of_before_it_is_up_is_not_missed() {
        let (notes, mut connections, _) = Notes::new();
        let looks = Cell::new(0);
        notes.take(&Event::Connected, |_| {});
        let waiting = until_up(&mut connections, || {
            looks.set(looks.get() + 1);
            looks.get() > 1
        });
        assert_eq!(timeout(Duration::from_secs(1), waiting).await, Ok(()));
        assert!(connections.changed().now_or_never().is_none(), "it was seen");
    }
}
