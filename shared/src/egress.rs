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
mod tests {
    use super::*;

    fn check(url: &str) -> Result<(), Refused> {
        EgressConfig::default().check_url(&Url::parse(url).unwrap())
    }

    /// One URL a line, each a JSON string, with headings. `PORT` stands for any.
    const HOSTILE: &str = include_str!("../tests/hostile-urls.txt");

    #[test]
    fn no_hostile_url_passes() {
        let lines = HOSTILE.lines().filter(|line| line.starts_with('"'));
        let urls: Vec<String> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(urls.len() >= 150, "{}", urls.len());
        let passes = |url: &&String| {
            let url = Url::parse(&url.replace("PORT", "8080"));
            url.is_ok_and(|url| EgressConfig::default().check_url(&url).is_ok())
        };
        let dangerous: Vec<_> = urls.iter().filter(passes).collect();
        assert!(dangerous.is_empty(), "{dangerous:#?}");
    }

    #[test]
    fn every_spelling_of_an_address_is_judged_as_the_address() {
        let spellings = [
            "127.1",
            "2130706433",
            "0x7f.1",
            "0177.0.0.1",
            "127.0.0.1.",
            "%31%32%37.0.0.1",
            "１２７。１",
        ];
        for host in spellings.into_iter().chain(["[::ffff:7f00:1]"]) {
            let refused = check(&format!("http://{host}/hook"));
            let address = Ipv4Addr::LOCALHOST.into();
            assert_eq!(refused, Err(Refused::Address(address)), "{host}");
        }
    }

    #[test]
    fn the_edges_of_refused_networks_are_where_they_should_be() {
        let is_refused = |text: &str| {
            EgressConfig::default()
                .check_address(text.parse().unwrap())
                .is_err()
        };
        for (inside, outside) in [
            ("0.255.255.255", "1.0.0.0"),
            ("10.0.0.0", "9.255.255.255"),
            ("10.255.255.255", "11.0.0.0"),
            ("100.64.0.0", "100.63.255.255"),
            ("100.127.255.255", "100.128.0.0"),
            ("127.255.255.255", "128.0.0.0"),
            ("168.63.129.16", "168.63.129.17"),
            ("169.254.0.0", "169.253.255.255"),
            ("172.16.0.0", "172.15.255.255"),
            ("172.31.255.255", "172.32.0.0"),
            ("192.168.0.0", "192.167.255.255"),
            ("198.19.255.255", "198.20.0.0"),
            ("224.0.0.0", "223.255.255.255"),
            ("1fff:ffff::", "2000::"),
            ("4000::", "3ffe:ffff::"),
            ("2001:1ff:ffff::", "2001:200::"),
            ("2001:db8:ffff::", "2001:db9::"),
            ("2002:ffff::", "2003::"),
            ("3fff:fff::", "3fff:1000::"),
        ] {
            assert!(is_refused(inside), "{inside}");
            assert!(!is_refused(outside), "{outside}");
        }
    }

    #[test]
    fn names_of_the_machine_itself_pass_only_where_loopback_is_allowed() {
        for name in [
            "localhost",
            "LocalHost.",
            "a.localhost",
            "localhost.localdomain",
            "ip6-localhost",
        ] {
            let url = Url::parse(&format!("http://{name}/")).unwrap();
            let refused = EgressConfig::default().check_url(&url);
            assert!(
                matches!(refused, Err(Refused::LocalName(_))),
                "{name}: {refused:?}"
            );
            let for_development = EgressConfig {
                egress_allow: vec!["127.0.0.0/8".parse().unwrap()],
            };
            assert_eq!(for_development.check_url(&url), Ok(()), "{name}");
        }
        assert_eq!(check("http://localhost.example.com/"), Ok(()));
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
        assert_eq!(check("https://example.com:0/"), Err(Refused::Port));
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
