use super::*;

fn check(url: &str) -> Result<(), Refused> {
    EgressConfig::default().check_url(&Url::parse(url).unwrap())
}

/// One URL a line, each a JSON string, with headings. `PORT` stands for any.
const HOSTILE: &str = include_str!("../../tests/hostile-urls.txt");

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
