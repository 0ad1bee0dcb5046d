//! The setting that names the proxy.

use std::fmt;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use shared::hidden::SecretText;
use thiserror::Error;
use url::Url;

/// Longest user and longest password, in bytes: SOCKS5 takes no more.
const MAX_LOGIN_BYTES: usize = 255;

/// A proxy for webhooks: `http://` (`CONNECT`) or `socks5://`, with user and password if it needs them.
#[derive(Clone)]
pub struct EgressProxy {
    protocol: Protocol,
    address: String,
    login: Option<Login>,
}

/// What is spoken with a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Protocol {
    Connect,
    Socks5,
}

/// Who this worker is to the proxy.
#[derive(Clone, Debug)]
pub(super) struct Login {
    pub user: SecretText,
    pub password: SecretText,
}

/// Text that names no proxy. It may hold a password, so it is not repeated.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum InvalidProxy {
    /// Not a URL.
    #[error("not a URL")]
    Url,
    /// Another scheme.
    #[error("its scheme must be http or socks5")]
    Scheme,
    /// No host.
    #[error("it has no host")]
    Host,
    /// A path, a query or a fragment.
    #[error("nothing may follow the host and the port")]
    Path,
    /// A user or password that is no text, or too long.
    #[error("its user and password must be text of at most {MAX_LOGIN_BYTES} bytes, percent-coded")]
    Login,
}

impl EgressProxy {
    pub(super) fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// `host:port`.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn credentials(&self) -> Option<&Login> {
        self.login.as_ref()
    }
}

impl fmt::Debug for EgressProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EgressProxy")
    }
}

impl FromStr for EgressProxy {
    type Err = InvalidProxy;

    fn from_str(text: &str) -> Result<Self, InvalidProxy> {
        let url = Url::parse(text.trim()).map_err(|_| InvalidProxy::Url)?;
        let (protocol, port) = match url.scheme() {
            "http" => (Protocol::Connect, 80),
            "socks5" => (Protocol::Socks5, 1_080),
            _ => return Err(InvalidProxy::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty());
        let host = host.ok_or(InvalidProxy::Host)?;
        let has_more = !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some();
        if has_more {
            return Err(InvalidProxy::Path);
        }
        let has_login = !url.username().is_empty() || url.password().is_some();
        let login = has_login.then(|| Login::new(url.username(), url.password().unwrap_or_default()));
        Ok(Self {
            protocol,
            address: format!("{host}:{}", url.port().unwrap_or(port)),
            login: login.transpose()?,
        })
    }
}

impl Login {
    fn new(user: &str, password: &str) -> Result<Self, InvalidProxy> {
        let read = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            let decoded = decoded.map_err(|_| InvalidProxy::Login)?;
            if decoded.len() > MAX_LOGIN_BYTES {
                return Err(InvalidProxy::Login);
            }
            Ok(SecretText::from(decoded.into_owned()))
        };
        Ok(Self {
            user: read(user)?,
            password: read(password)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<EgressProxy, InvalidProxy> {
        text.parse()
    }

    #[test]
    fn a_proxy_is_a_url_with_its_user_and_password() {
        for (text, address, login) in [
            ("http://proxy.example:3128", "proxy.example:3128", None),
            ("http://proxy.example/", "proxy.example:80", None),
            ("socks5://u:p%40ss@10.0.0.1", "10.0.0.1:1080", Some(("u", "p@ss"))),
            ("http://u@[::1]:8888", "[::1]:8888", Some(("u", ""))),
        ] {
            let proxy = parse(text).unwrap();
            let shown = proxy.credentials();
            let shown = shown.map(|login| (login.user.reveal(), login.password.reveal()));
            assert_eq!((proxy.address(), shown), (address, login), "{text}");
            assert_eq!(format!("{proxy:?}"), "EgressProxy");
        }
    }

    #[test]
    fn what_names_no_proxy_is_told_without_repeating_it() {
        for (text, error) in [
            ("proxy", InvalidProxy::Url),
            ("https://canary@proxy", InvalidProxy::Scheme),
            ("socks5h://proxy", InvalidProxy::Scheme),
            ("proxy:3128", InvalidProxy::Scheme),
            ("socks5:///x", InvalidProxy::Host),
            ("http://proxy/canary", InvalidProxy::Path),
            ("http://proxy?canary", InvalidProxy::Path),
            ("http://canary%ff@proxy", InvalidProxy::Login),
        ] {
            let told = parse(text).unwrap_err();
            assert!(!told.to_string().contains("canary"), "{told}");
            assert_eq!(told, error, "{text}");
        }
        let long = format!("http://{}@proxy", "x".repeat(256));
        assert_eq!(parse(&long).unwrap_err(), InvalidProxy::Login);
    }
}
