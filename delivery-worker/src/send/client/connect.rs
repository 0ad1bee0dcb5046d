//! Connections to receivers. Names are resolved once, every address is judged, and only those that passed are dialled, by this
//! worker or by the proxy of its settings; no other proxy is read from the environment.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::Context as _;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use hyper::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{WantsClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ConfigBuilder};
use rustls_platform_verifier::Verifier;
use shared::egress::{EgressConfig, Refused};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tower::Service;

use super::dialable::dialable;
use super::identity::Identity;
use super::line::Line;
use super::proxy::{EgressProxy, Proxy};
use super::socket::{Heard, Metered, Socket};
use crate::send::lookups::{self, LookupFailed, Lookups};

/// How long it may take until a connection can be used, with the look-up and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long what was sent may stay unconfirmed by the other machine, and how soon an idle connection is probed.
const TCP_USER_TIMEOUT: Duration = Duration::from_secs(30);
const TCP_KEEPALIVE: Duration = Duration::from_secs(15);
const TCP_KEEPALIVE_RETRIES: u32 = 3;

const HTTP_2: &[u8] = b"h2";
const HTTP_1: &[u8] = b"http/1.1";

/// An error of any kind, with its causes.
pub(super) type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// A connection that is ready for HTTP.
pub(super) struct Connection {
    /// With all that is counted on it.
    pub socket: Heard,
    /// The other end chose HTTP/2.
    pub is_http2: bool,
}

/// Opens connections.
#[derive(Clone)]
pub(super) struct Connector {
    tcp: HttpConnector<GuardedResolver>,
    resolver: GuardedResolver,
    /// Then it makes the connections.
    proxy: Option<Proxy>,
    tls: TlsConnector,
    /// Trusts the system's authorities.
    system: Arc<Verifier>,
}

impl Connector {
    /// URLs must have passed [`EgressConfig::check_url`]: the resolver is not asked about hosts that are addresses.
    ///
    /// # Errors
    /// When the system has no trusted certificates.
    pub(super) fn new(
        egress: &EgressConfig,
        proxy: Option<&EgressProxy>,
        lookups: Lookups,
    ) -> anyhow::Result<Self> {
        let resolver = GuardedResolver {
            egress: egress.clone(),
            lookups: Arc::new(lookups),
        };
        let tcp = tcp(HttpConnector::new_with_resolver(resolver.clone()));
        let proxy = proxy.map(|proxy| Proxy::new(proxy, self::tcp(HttpConnector::new())));
        let system = Verifier::new(provider());
        let system = Arc::new(system.context("cannot load the system's trusted certificates")?);
        let tls = verified_by(system.clone())?.with_no_client_auth();
        Ok(Self {
            tcp,
            resolver,
            proxy: proxy.transpose()?,
            tls: connector(tls),
            system,
        })
    }

    /// What TLS is spoken with: for an identity, something of its own.
    fn tls<'a>(&'a self, identity: Option<&'a Identity>) -> Result<&'a TlsConnector, AnyError> {
        let Some(identity) = identity else {
            return Ok(&self.tls);
        };
        if let Some(tls) = identity.tls.get() {
            return Ok(tls);
        }
        let given = &identity.certificate;
        let builder = match &given.authorities {
            None => verified_by(self.system.clone())?,
            Some(authorities) => {
                let roots = Arc::new(authorities.clone());
                verified_by(WebPkiServerVerifier::builder_with_provider(roots, provider()).build()?)?
            }
        };
        let tls = builder.with_client_auth_cert(given.chain.clone(), given.key.clone_key())?;
        Ok(identity.tls.get_or_init(|| connector(tls)))
    }

    /// Connects to the host of `uri`.
    ///
    /// # Errors
    /// With the reason and its causes: [`Refused`], [`LookupFailed`], an I/O error, a TLS error.
    pub(super) async fn connect(
        &self,
        uri: &Uri,
        line: &Arc<Line>,
        identity: Option<&Identity>,
    ) -> Result<Connection, AnyError> {
        let connecting = tokio::time::timeout(CONNECT_TIMEOUT, self.try_connect(uri, line, identity));
        connecting.await.unwrap_or_else(|_| {
            let reason = format!("no connection within {CONNECT_TIMEOUT:?}");
            Err(io::Error::new(io::ErrorKind::TimedOut, reason).into())
        })
    }

    async fn try_connect(
        &self,
        uri: &Uri,
        line: &Arc<Line>,
        identity: Option<&Identity>,
    ) -> Result<Connection, AnyError> {
        let socket = match &self.proxy {
            None => self.dial(uri).await?,
            Some(proxy) => proxy.connect(&self.resolver.addresses(uri).await?).await?,
        };
        let socket = Metered::new(socket, line.clone());
        let plain = uri.scheme() != Some(&hyper::http::uri::Scheme::HTTPS);
        let (socket, is_http2): (Box<dyn Socket>, _) = if plain {
            (Box::new(socket), false)
        } else {
            let name = ServerName::try_from(host(uri).to_owned())?;
            let stream = self.tls(identity)?.connect(name, socket).await?;
            let is_http2 = stream.get_ref().1.alpn_protocol() == Some(HTTP_2);
            (Box::new(stream), is_http2)
        };
        Ok(Connection {
            socket: Heard::new(socket, line.clone()),
            is_http2,
        })
    }

    /// Connects without a proxy.
    async fn dial(&self, uri: &Uri) -> Result<TcpStream, AnyError> {
        if let Ok(ip) = host(uri).parse::<IpAddr>() {
            // The resolver is not asked about it.
            dialable(vec![SocketAddr::new(ip, 0)])?;
        }
        Ok(self.tcp.clone().call(uri.clone()).await?.into_inner())
    }
}

/// The host of a URL. An IPv6 address stands in brackets there.
fn host(uri: &Uri) -> &str {
    let host = uri.host().unwrap_or_default();
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Sets how connections are made and kept.
fn tcp<Resolver>(mut tcp: HttpConnector<Resolver>) -> HttpConnector<Resolver> {
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(TCP_KEEPALIVE));
    tcp.set_keepalive_interval(Some(TCP_KEEPALIVE));
    tcp.set_keepalive_retries(Some(TCP_KEEPALIVE_RETRIES));
    tcp.set_tcp_user_timeout(Some(TCP_USER_TIMEOUT));
    tcp
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn verified_by(
    verifier: Arc<dyn ServerCertVerifier>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, rustls::Error> {
    let builder = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier))
}

fn connector(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = [HTTP_2, HTTP_1].map(<[u8]>::to_vec).to_vec();
    Arc::new(config).into()
}

#[derive(Clone)]
struct GuardedResolver {
    egress: EgressConfig,
    lookups: Arc<Lookups>,
}

impl GuardedResolver {
    /// The checked addresses of a URL's host, with its port.
    async fn addresses(&self, uri: &Uri) -> Result<Vec<SocketAddr>, AnyError> {
        let host = host(uri);
        let is_https = uri.scheme() == Some(&hyper::http::uri::Scheme::HTTPS);
        let port = uri.port_u16().unwrap_or(if is_https { 443 } else { 80 });
        let mut addresses = match host.parse() {
            Ok(ip) => permitted(&self.egress, std::iter::once(SocketAddr::new(ip, port)))?,
            Err(_) => self.find(host).await?,
        };
        for address in &mut addresses {
            address.set_port(port);
        }
        Ok(addresses)
    }

    async fn find(&self, name: &str) -> Result<Vec<SocketAddr>, AnyError> {
        let found = self.lookups.look_up(lookups::sender().as_ref(), name).await?;
        permitted(&self.egress, found.iter().copied())
    }
}

impl Service<Name> for GuardedResolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = AnyError;
    type Future = BoxFuture<'static, Result<Self::Response, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.clone();
        async move { Ok(dialable(resolver.find(name.as_str()).await?)?.into_iter()) }.boxed()
    }
}

/// The addresses that may be dialled; the refusal of the last one when there are none.
fn permitted(
    egress: &EgressConfig,
    found: impl Iterator<Item = SocketAddr>,
) -> Result<Vec<SocketAddr>, AnyError> {
    let mut refused: Option<Refused> = None;
    let mut addresses = Vec::new();
    for address in found {
        match egress.check_address(address.ip()) {
            Ok(()) => addresses.push(address),
            Err(error) => refused = Some(error),
        }
    }
    match (addresses.is_empty(), refused) {
        (false, _) => Ok(addresses),
        (true, Some(refused)) => Err(refused.into()),
        (true, None) => Err(LookupFailed::no_address().into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_of_a_mixed_answer_are_dialled() {
        let found = ["10.0.0.1:0", "8.8.8.8:0", "[::1]:0"].map(|text| text.parse().unwrap());
        let permitted = permitted(&EgressConfig::default(), found.into_iter()).unwrap();
        assert_eq!(permitted, ["8.8.8.8:0".parse().unwrap()]);
    }

    #[test]
    fn a_name_with_only_private_addresses_is_refused() {
        let found = ["127.0.0.1:0".parse().unwrap()].into_iter();
        let error = permitted(&EgressConfig::default(), found).unwrap_err();
        assert!(error.is::<Refused>(), "{error}");
    }
}
