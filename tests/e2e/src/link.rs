//! A way to Postgres that can fall silent: as when its host loses its power and another one takes its place.

use std::net::SocketAddr;

use penstock_local::{Replica, Stack};
use tokio::io::{copy, copy_bidirectional, sink};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// A TCP proxy in front of a stack's Postgres. It ends when it is dropped.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    /// How often it has fallen silent.
    silences: watch::Sender<u32>,
    is_cut: watch::Sender<bool>,
    _server: JoinSet<()>,
}

impl Link {
    /// Passes everything on.
    ///
    /// # Panics
    /// When there is no free port.
    pub async fn start(stack: &Stack) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("there are free ports");
        let address = listener.local_addr().expect("it listens");
        let postgres = SocketAddr::from(([127, 0, 0, 1], stack.postgres().port()));
        let silences = watch::Sender::new(0);
        let is_cut = watch::Sender::new(false);
        let (seen, cut) = (silences.subscribe(), is_cut.subscribe());
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((mut client, _)) = listener.accept().await {
                    if *cut.borrow() {
                        connections.spawn(async move { swallow(&mut client).await });
                        continue;
                    }
                    connections.spawn(connect(client, postgres, seen.clone()));
                }
            }
        });
        Self {
            address,
            silences,
            is_cut,
            _server: server,
        }
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
async fn swallow(client: &mut TcpStream) {
    let _ = copy(client, &mut sink()).await;
}

async fn connect(mut client: TcpStream, postgres: SocketAddr, mut silences: watch::Receiver<u32>) {
    let before = *silences.borrow_and_update();
    let Ok(mut server) = TcpStream::connect(postgres).await else {
        return;
    };
    tokio::select! {
        // An error is the end of a connection, which both ends notice by themselves.
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = silences.wait_for(|silences| *silences != before) => {}
    }
    drop(server);
    swallow(&mut client).await;
}
