//! A way to Postgres or nats-server that can fall silent: as when its host loses its power and another one takes its
//! place.

use std::net::SocketAddr;

use penstock_local::{Replica, Stack};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, copy, sink};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A TCP proxy in front of a server of a stack. It ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    /// How often it has fallen silent.
    silences: watch::Sender<u32>,
    /// Whether new connections stay without answers too.
    is_cut: watch::Sender<bool>,
    /// Whether answers are swallowed.
    swallows: watch::Sender<bool>,
    _server: JoinSet<()>,
}

impl Link {
    /// Passes everything on to Postgres.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(stack: &Stack) -> Self {
        Self::to(SocketAddr::from(([127, 0, 0, 1], stack.postgres().port()))).await
    }

    /// Passes everything on to nats-server.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn to_nats(stack: &Stack) -> Self {
        let url = stack.nats_url();
        let address = url.trim_start_matches("nats://");
        Self::to(address.parse().expect("the stack's NATS URL has an address")).await
    }

    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there are free ports");
        let address = listener.local_addr().expect("it listens");
        let (silences, swallows) = (watch::Sender::new(0), watch::Sender::new(false));
        let is_cut = watch::Sender::new(false);
        let seen = (silences.subscribe(), swallows.subscribe());
        let cut = is_cut.subscribe();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((mut client, _)) = listener.accept().await {
                    if *cut.borrow() {
                        connections.spawn(async move { swallow(&mut client).await });
                        continue;
                    }
                    let (silences, swallows) = seen.clone();
                    connections.spawn(connect(client, server, silences, swallows));
                }
            }
        });
        Self {
            address,
            silences,
            is_cut,
            swallows,
            _server: task,
        }
    }

    /// A replica that reaches the stack's nats-server by this way only.
    pub fn nats_replica(&self) -> Replica {
        Replica::default().with_env("NATS_URL", &format!("nats://{}", self.address))
    }

    /// Whether what the server says from now on is lost, while it goes on hearing everything.
    pub fn swallow_answers(&self, swallows: bool) {
        self.swallows.send_replace(swallows);
    }

    /// A replica that reaches the stack's Postgres by this way only.
    pub fn replica(&self, stack: &Stack) -> Replica {
        let own = format!(":{}/", stack.postgres().port());
        let through = format!(":{}/", self.address.port());
        let database = stack.database_url().replace(&own, &through);
        Replica::default().with_env("DATABASE_URL", &database)
    }

    /// From now on nothing comes back through any connection that there is, and nobody is told; new ones work. Postgres
    /// sees the old ones closed.
    pub fn fall_silent(&self) {
        self.silences.send_modify(|silences| *silences += 1);
    }

    /// From now on nothing comes back through any connection, new ones included.
    pub fn cut_off(&self) {
        self.is_cut.send_replace(true);
        self.fall_silent();
    }
}

/// Takes whatever comes and says nothing.
async fn swallow(client: &mut (impl AsyncRead + Unpin)) {
    let _ = copy(client, &mut sink()).await;
}

async fn connect(
    client: TcpStream,
    server: SocketAddr,
    mut silences: watch::Receiver<u32>,
    swallows: watch::Receiver<bool>,
) {
    let before = *silences.borrow_and_update();
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let both = async {
        tokio::select! {
            _ = copy(&mut from_client, &mut to_server) => {}
            _ = answer(&mut from_server, &mut to_client, &swallows) => {}
        }
    };
    tokio::select! {
        // An error or an end is the end of a connection, which both ends notice by themselves.
        () = both => return,
        _ = silences.wait_for(|silences| *silences != before) => {}
    }
    drop((from_server, to_server));
    swallow(&mut from_client).await;
}

async fn answer(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    swallows: &watch::Receiver<bool>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = from.read(&mut buffer).await?;
        if length == 0 {
            return to.shutdown().await;
        }
        if !*swallows.borrow() {
            to.write_all(&buffer[..length]).await?;
        }
    }
}
