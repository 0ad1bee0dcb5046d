//! Which addresses webhooks may go to. Endpoint URLs come from customers: without this a customer could make
//! the workers call the operator's own network.
//!
//! Judged twice: the URL when an endpoint is created and before each attempt, and every resolved address in
//! the HTTP client's resolver, so that the address that was checked is the address that is dialled.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use clap::Args;
use ipnet::IpNet;
use thiserror::Error;
use url::{Host, Url};

/// IPv4 networks that are not public (IANA special-purpose registry), and multicast.
const REFUSED_V4: &[(Ipv4Addr, u8)] = &[
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Azure's wire server: an address of the public space that means the host of a virtual machine.
    (Ipv4Addr::new(168, 63, 129, 16), 32),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// The only public IPv6 space, `2000::/3`; these parts of it tunnel to IPv4 or are not public.
const REFUSED_V6: &[(Ipv6Addr, u8)] = &[
    // IETF protocol assignments, which hold Teredo, benchmarking and ORCHID.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Names that mean the machine itself, besides `*.localhost` (RFC 6761), wherever they are resolved.
const LOCAL_NAMES: &[&str] = &[
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
];

const PUBLIC_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// Exceptions to the guard.
#[derive(Args, Clone, Debug, Default)]
pub struct EgressConfig {
    /// Networks (CIDR, comma separated) that webhooks may go to although they are not public, for development.
    #[arg(long, env, value_name = "EGRESS_ALLOW", value_delimiter = ',')]
    pub egress_allow: Vec<IpNet>,
}

/// Why a destination is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refused {
    /// Neither http nor https.
    #[error("the URL's scheme must be http or https")]
    Scheme,
    /// User name or password in the URL.
    #[error("the URL must not hold a user name or password")]
    UserInfo,
    /// Port 0, at which nothing can listen.
    #[error("the URL's port must not be 0")]
    Port,
    /// No host.
    #[error("the URL has no host")]
    NoHost,
    /// A host that cannot be a name.
    #[error("{0:?} is not a host name")]
    Name(String),
    /// A name of the machine itself.
    #[error("{0:?} is not a public name")]
    LocalName(String),
    /// A private, loopback, link-local or otherwise special address.
    #[error("{0} is not a public address")]
    Address(IpAddr),
}

impl EgressConfig {
    /// Judges a URL as far as it can be judged without resolving its host name.
    ///
    /// # Errors
    /// [`Refused`], with the reason.
    pub fn check_url(&self, url: &Url) -> Result<(), Refused> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refused::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refused::UserInfo);
        }
        if url.port() == Some(0) {
            return Err(Refused::Port);
        }
        match url.host() {
            None => Err(Refused::NoHost),
            Some(Host::Domain(name)) => self.check_name(name),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
        }
    }

    /// A name of the machine itself passes where loopback is allowed; what it resolves to is judged too.
    fn check_name(&self, name: &str) -> Result<(), Refused> {
        // `Url` has lower-cased it. A dot at the end says that it is complete.
        let plain = name.strip_suffix('.').unwrap_or(name);
        if plain.split('.').any(str::is_empty) {
            return Err(Refused::Name(name.to_owned()));
        }
        let is_local = LOCAL_NAMES.contains(&plain) || plain.ends_with(".localhost");
        let loopback = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        let mut allowed = loopback
            .into_iter()
            .filter(|&address| self.check_address(address).is_ok());
        if is_local && allowed.next().is_none() {
            Err(Refused::LocalName(name.to_owned()))
        } else {
            Ok(())
        }
    }

    /// Judges an address that is about to be dialled.
    ///
    /// # Errors
    /// [`Refused::Address`].
    pub fn check_address(&self, address: IpAddr) -> Result<(), Refused> {
        let address = address.to_canonical();
        let allowed = self.egress_allow.iter().any(|network| network.contains(&address));
        if allowed || is_public(address) {
            Ok(())
        } else {
            Err(Refused::Address(address))
        }
    }
}

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !REFUSED_V4.iter().any(|&(network, prefix)| {
            let mask = u32::MAX << (32 - prefix);
            address.to_bits() & mask == network.to_bits()
        }),
        IpAddr::V6(address) => {
            let inside = |&(network, prefix): &(Ipv6Addr, u8)| {
                let mask = u128::MAX << (128 - prefix);
                address.to_bits() & mask == network.to_bits()
            };
            inside(&PUBLIC_V6) && !REFUSED_V6.iter().any(inside)
        }
    }
}

#[cfg(test)]
mod tests;
