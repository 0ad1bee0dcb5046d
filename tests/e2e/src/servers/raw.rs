//! A receiver that speaks TCP, and HTTP only as far as a test wants.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Listens, counts connections, and does with each what a test says. It ends when it is dropped.
#[derive(Debug)]
pub struct RawReceiver {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _server: JoinSet<()>,
}

impl RawReceiver {
    /// Listens at `address`; port 0 is any that is free.
    ///
    /// # Panics
    /// When the address is taken.
    pub async fn start<Talk>(address: &str, talk: impl Fn(TcpStream) -> Talk + Send + 'static) -> Self
    where
        Talk: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await;
        let listener = listener.unwrap_or_else(|error| panic!("cannot listen at {address}: {error}"));
        let address = listener.local_addr().expect("a bound socket has an address");
        let connections = Arc::new(AtomicUsize::new(0));
        let mut server = JoinSet::new();
        server.spawn({
            let connections = connections.clone();
            async move {
                let mut talks = JoinSet::new();
                loop {
                    let (stream, _) = listener.accept().await.expect("accepting does not fail");
                    connections.fetch_add(1, Ordering::Relaxed);
                    talks.spawn(talk(stream));
                }
            }
        });
        Self {
            address,
            connections,
            _server: server,
        }
    }

    /// One that hangs up on whoever comes, and to whom nobody should come.
    pub async fn canary(address: &str) -> Self {
        Self::start(address, async |stream| drop(stream)).await
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Reads a request's head, and its body as far as that came with it.
pub async fn read_request(stream: &mut TcpStream) {
    let mut request = Vec::new();
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}
