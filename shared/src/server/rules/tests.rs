use super::*;

fn judged(version: Version, target: &str, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().version(version).uri(target);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(()).expect("it can be written down");
    refusal(&request).map_or(200, |refusal| refusal.status.as_u16())
}

#[test]
fn http1_names_one_host() {
    let of = |hosts: &[&str]| {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        (
            judged(Version::HTTP_11, "/", &headers),
            judged(Version::HTTP_10, "/", &headers),
        )
    };
    assert_eq!(of(&[]), (400, 200));
    assert_eq!(of(&["a", "a"]), (400, 400));
    for host in [
        "",
        "a",
        "a.example:80",
        "a:",
        "127.0.0.1:8080",
        "[::1]",
        "[::1]:80",
        "[fe80::1%25eth0]",
        "%41_b",
    ] {
        let expected = if host.contains("%25") { 400 } else { 200 };
        assert_eq!(of(&[host]), (expected, expected), "{host:?}");
    }
    for host in [
        "a b", "a, b", "u@a", "a/b", "http://a", "a:b", "a:80:80", "[::1", "[]", "[::1]a", "%4", "a?",
        "\"a\"",
    ] {
        assert_eq!(of(&[host]), (400, 400), "{host:?}");
    }
}

#[test]
fn http2_names_one_host_in_either_way() {
    let of = |target: &str, hosts: &[&str]| {
        let headers: Vec<_> = hosts.iter().map(|host| ("host", *host)).collect();
        judged(Version::HTTP_2, target, &headers)
    };
    assert_eq!(of("http://a/", &[]), 200);
    assert_eq!(of("/", &["a"]), 200);
    assert_eq!(of("http://a/", &["A:80"]), 200);
    assert_eq!(of("https://a:443/", &["a"]), 200);
    assert_eq!(of("/", &[]), 400);
    assert_eq!(of("http://a/", &["b"]), 400);
    assert_eq!(of("http://a/", &["a:81"]), 400);
    assert_eq!(of("http://a/", &["a", "a"]), 400);
    assert_eq!(of("http://u@a/", &[]), 400);
}

#[test]
fn a_body_is_chunked_once_or_not_at_all() {
    let of = |codings: &[&str]| {
        let mut headers = vec![("host", "a")];
        headers.extend(codings.iter().map(|coding| ("transfer-encoding", *coding)));
        judged(Version::HTTP_11, "/", &headers)
    };
    assert_eq!(of(&["chunked"]), 200);
    assert_eq!(of(&["Chunked"]), 200);
    assert_eq!(of(&[", chunked"]), 200);
    for codings in [
        &["gzip, chunked"][..],
        &["gzip", "chunked"],
        &["identity, chunked"],
        &["x, chunked"],
    ] {
        assert_eq!(of(codings), 501, "{codings:?}");
    }
    assert_eq!(of(&["chunked, chunked"]), 400);
    assert_eq!(of(&["chunked", "chunked"]), 400);
}

#[test]
fn nothing_is_expected_but_a_word_to_go_on() {
    let of = |version, expectations: &[&str]| {
        let mut headers = vec![("host", "a")];
        headers.extend(expectations.iter().map(|expected| ("expect", *expected)));
        judged(version, "http://a/", &headers)
    };
    assert_eq!(of(Version::HTTP_11, &["100-Continue"]), 200);
    assert_eq!(of(Version::HTTP_11, &["200-ok"]), 417);
    assert_eq!(of(Version::HTTP_11, &["100-continue, 200-ok"]), 417);
    assert_eq!(of(Version::HTTP_11, &["100-continue", "x"]), 417);
    assert_eq!(of(Version::HTTP_10, &["200-ok"]), 200);
    assert_eq!(of(Version::HTTP_2, &["200-ok"]), 417);
}

#[test]
fn a_header_that_means_one_thing_is_there_once() {
    let of = |name| judged(Version::HTTP_11, "/", &[("host", "a"), (name, "1"), (name, "1")]);
    for name in ["authorization", "x-api-key", "content-type"] {
        assert_eq!(of(name), 400, "{name}");
    }
    assert_eq!(of("tracestate"), 200);
}

#[test]
fn a_refusal_is_a_problem_and_ends_the_connection() {
    let response = |version| Refusal::malformed("it is wrong").into_response(version);
    let close = |version| response(version).headers().contains_key(CONNECTION);
    assert_eq!(
        response(Version::HTTP_11).headers()[CONTENT_TYPE],
        "application/problem+json"
    );
    assert!(close(Version::HTTP_11) && !close(Version::HTTP_2));
}
