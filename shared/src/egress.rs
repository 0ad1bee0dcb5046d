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
    /// No host.
    #[error("the URL has no host")]
    NoHost,
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
        match url.host() {
            None => Err(Refused::NoHost),
            Some(Host::Domain(_)) => Ok(()),
            Some(Host::Ipv4(address)) => self.check_address(address.into()),
            Some(Host::Ipv6(address)) => self.check_address(address.into()),
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
mod tests {
    use super::*;

    fn check(url: &str) -> Result<(), Refused> {
        EgressConfig::default().check_url(&Url::parse(url).unwrap())
    }

    #[test]
    fn addresses_that_are_not_public_are_refused_in_every_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "169.254.169.254",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:a9fe:a9fe]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[2001:0:7f00:1::]",
            "[fe80::1]",
            "[fc00::1]",
            "[fec0::1]",
            "[ff02::1]",
            "[2001:db8::1]",
            "[::7f00:1]",
        ] {
            let refused = check(&format!("http://{host}/hook"));
            assert!(matches!(refused, Err(Refused::Address(_))), "{host}: {refused:?}");
        }
    }

    #[test]
    fn public_addresses_and_names_pass() {
        for url in [
            "https://example.com/",
            "http://8.8.8.8:8080/x",
            "https://[2606:4700::1111]/",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn other_schemes_and_user_names_are_refused() {
        assert_eq!(check("ftp://example.com/"), Err(Refused::Scheme));
        assert_eq!(check("https://user@example.com/"), Err(Refused::UserInfo));
        assert_eq!(check("https://:secret@example.com/"), Err(Refused::UserInfo));
    }

    #[test]
    fn an_allowed_network_passes_and_its_neighbours_do_not() {
        let policy = EgressConfig {
            egress_allow: vec!["127.0.0.0/8".parse().unwrap()],
        };
        assert!(policy.check_address("127.0.0.1".parse().unwrap()).is_ok());
        assert!(policy.check_address("::ffff:127.0.0.1".parse().unwrap()).is_ok());
        assert!(policy.check_address("10.0.0.1".parse().unwrap()).is_err());
    }
}
