//! A TCP proxy that treats what passes through it badly.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The most bytes that are taken at once.
const CHUNK: usize = 64 << 10;

/// The most bytes of a slice.
const SLICE: usize = 32;

/// What happens to connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Clear,
    /// Everything arrives later by so much.
    Latency(Duration),
    /// Everything arrives in pieces of a few bytes.
    Slices,
    /// So many bytes a second go through in each direction.
    Bandwidth(u32),
    /// Nothing goes through, and nobody is told.
    Stall,
    /// Those that have connected are told that nothing more will come of those that have accepted, and the other way
    /// round nothing is said.
    HalfClosed,
    /// All connections are closed, new ones too.
    Cut,
}

/// All kinds of bad weather.
pub(crate) const BAD: [Weather; 6] = [
    Weather::Latency(Duration::from_millis(50)),
    Weather::Slices,
    Weather::Bandwidth(200 << 10),
    Weather::Stall,
    Weather::HalfClosed,
    Weather::Cut,
];

/// A proxy in front of one server.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    // Ends with its proxy, and all connections with it.
    _server: JoinSet<()>,
}

impl Proxy {
    /// In clear weather.
    pub(crate) async fn start(server: SocketAddr) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let weather = watch::Sender::new(Weather::Clear);
        let receiver = weather.subscribe();
        let mut task = JoinSet::new();
        task.spawn(accept(listener, server, receiver));
        Ok(Self {
            address,
            weather,
            _server: task,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, weather: watch::Receiver<Weather>) {
    let mut connections = JoinSet::new();
    loop {
        // It fails while there are no descriptors left.
        if let Ok((client, _)) = listener.accept().await {
            connections.spawn(connect(client, server, weather.clone()));
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut weather: watch::Receiver<Weather>) {
    if *weather.borrow() == Weather::Cut {
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // Without it slices would be put together again.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let there = pump(from_client, to_server, weather.clone(), false);
    let back = pump(from_server, to_client, weather.clone(), true);
    let both = async { tokio::join!(there, back) };
    tokio::select! {
        // An error is the end of a connection, which both ends notice by themselves.
        _ = both => {}
        _ = weather.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

/// Passes on what comes until it ends. `closes` says which of the two ways a half-closed connection loses.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut weather: watch::Receiver<Weather>,
    closes: bool,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        let now = *weather.borrow_and_update();
        if now == Weather::HalfClosed && closes {
            return to.shutdown().await;
        }
        let passes = now != Weather::Stall;
        let length = tokio::select! {
            length = from.read(&mut buffer), if passes => length?,
            changed = weather.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return Ok(()),
            },
        };
        if length == 0 {
            return to.shutdown().await;
        }
        pass(&mut to, &buffer[..length], now).await?;
    }
}

async fn pass(to: &mut OwnedWriteHalf, bytes: &[u8], weather: Weather) -> io::Result<()> {
    match weather {
        Weather::Latency(delay) => tokio::time::sleep(delay).await,
        Weather::Bandwidth(per_second) => {
            let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
            tokio::time::sleep(Duration::from_secs_f64(f64::from(length) / f64::from(per_second))).await;
        }
        Weather::Slices => {
            let mut rest = bytes;
            while !rest.is_empty() {
                let (slice, after) = rest.split_at(rand::random_range(1..=SLICE).min(rest.len()));
                to.write_all(slice).await?;
                rest = after;
            }
            return Ok(());
        }
        Weather::Clear | Weather::Stall | Weather::HalfClosed | Weather::Cut => {}
    }
    to.write_all(bytes).await
}
