//! The proxy that connections to receivers go through, if there is one: HTTP `CONNECT` or SOCKS5. It is told addresses that the
//! guard has checked, never names.

mod failed;
mod http_connect;
mod socks5;
mod url;

use std::fmt;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service as _;

pub(crate) use self::failed::ProxyFailed;
pub(crate) use self::url::EgressProxy;
use self::url::Protocol;

/// How long it may take to reach the proxy.
const REACH_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a proxy may take to connect before it is asked whether it is alive, how long that may take, and how long one that
/// is alive may take on. Together they are shorter than a connection may take, so that an attempt ends with the reason.
const PATIENCE: Duration = Duration::from_secs(1);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
const REST: Duration = Duration::from_millis(2_500);

/// Connects through a proxy.
#[derive(Clone)]
pub(super) struct Proxy {
    settings: EgressProxy,
    uri: Uri,
    tcp: HttpConnector,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").finish_non_exhaustive()
    }
}

impl Proxy {
    /// `tcp` reaches the proxy.
    ///
    /// # Errors
    /// When its host is none.
    pub(super) fn new(settings: &EgressProxy, mut tcp: HttpConnector) -> anyhow::Result<Self> {
        tcp.set_connect_timeout(Some(REACH_TIMEOUT));
        Ok(Self {
            uri: format!("http://{}", settings.address()).parse()?,
            settings: settings.clone(),
            tcp,
        })
    }

    /// Connects to one of these addresses: the first one to which the proxy can.
    ///
    /// # Errors
    /// [`ProxyFailed`], that of the last address.
    pub(super) async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ProxyFailed> {
        let mut failed = ProxyFailed::Unreachable("there is no address".to_owned());
        for address in addresses {
            match self.connect_to(*address).await {
                Err(ProxyFailed::Unreachable(reason)) => failed = ProxyFailed::Unreachable(reason),
                done => return done,
            }
        }
        Err(failed)
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, ProxyFailed> {
        let mut socket = self.reach().await?;
        self.greet(&mut socket).await?;
        self.wait(self.ask(&mut socket, address)).await?;
        Ok(socket)
    }

    /// Waits for the answer to a request, and finds out whose fault it is when there is none.
    async fn wait(&self, asked: impl Future<Output = Result<(), ProxyFailed>>) -> Result<(), ProxyFailed> {
        let mut asked = pin!(asked);
        match timeout(PATIENCE, &mut asked).await {
            Ok(Err(ProxyFailed::HungUp(_))) => self.judge("it has hung up").await,
            Ok(answer) => answer,
            Err(_) => tokio::select! {
                answer = &mut asked => answer,
                judged = self.judge("no answer in time") => match judged {
                    // It is alive.
                    Err(ProxyFailed::Unreachable(reason)) => {
                        let late = timeout(REST, asked).await;
                        late.unwrap_or(Err(ProxyFailed::Unreachable(reason)))
                    }
                    other => other,
                },
            },
        }
    }

    async fn reach(&self) -> Result<TcpStream, ProxyFailed> {
        let connected = self.tcp.clone().call(self.uri.clone()).await;
        let connected = connected.map_err(|error| ProxyFailed::Away(error.into()))?;
        Ok(connected.into_inner())
    }

    /// What comes before a request, in which only the proxy has a part.
    async fn greet(&self, socket: &mut TcpStream) -> Result<(), ProxyFailed> {
        if self.settings.protocol() == Protocol::Connect {
            return Ok(());
        }
        match timeout(ANSWER_TIMEOUT, socks5::greet(socket, self.settings.credentials())).await {
            Ok(Err(ProxyFailed::HungUp(error))) => Err(ProxyFailed::Away(error.into())),
            Ok(greeted) => greeted,
            Err(_) => Err(ProxyFailed::Own("does not answer".to_owned())),
        }
    }

    async fn ask(&self, socket: &mut TcpStream, address: SocketAddr) -> Result<(), ProxyFailed> {
        match self.settings.protocol() {
            Protocol::Connect => http_connect::ask(socket, address, self.settings.credentials()).await,
            Protocol::Socks5 => socks5::ask(socket, address).await,
        }
    }

    /// Whose fault it is that the proxy gave no answer: a proxy that is alive answers what it needs nobody else for.
    async fn judge(&self, reason: &str) -> Result<(), ProxyFailed> {
        let alive = timeout(ANSWER_TIMEOUT, async {
            let mut socket = self.reach().await?;
            match self.settings.protocol() {
                Protocol::Connect => {
                    // No proxy takes this for a request to somebody else.
                    socket
                        .write_all(b"GET / HTTP/1.1\r\nHost: penstock.invalid\r\n\r\n")
                        .await
                        .map_err(ProxyFailed::HungUp)?;
                    socket.read_u8().await.map_err(ProxyFailed::HungUp).map(drop)
                }
                Protocol::Socks5 => socks5::greet(&mut socket, self.settings.credentials()).await,
            }
        });
        match alive.await {
            Ok(Ok(())) => Err(ProxyFailed::Unreachable(reason.to_owned())),
            Ok(Err(ProxyFailed::HungUp(error))) => Err(ProxyFailed::Away(error.into())),
            Ok(Err(other)) => Err(other),
            Err(_) => Err(ProxyFailed::Own("does not answer".to_owned())),
        }
    }
}
