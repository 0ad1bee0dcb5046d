//! Whether a request comes from a page of this very origin. Only such a request may use the session's cookie.

use axum::http::header::{HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, Uri};

/// The header that the console's page puts on every request. A page of another origin must ask before it may send it, and is
/// told no.
pub(super) const MARK: &str = "penstock-console";

/// Whether a request claims to come from the console's page.
pub(super) fn is_marked(headers: &HeaderMap) -> bool {
    headers.contains_key(MARK)
}

/// Whether a request comes from a page of this origin, as its browser says.
pub(super) fn is_same_origin(method: &Method, uri: &Uri, headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if !is_marked(headers) {
        return false;
    }
    // Browsers say this to servers that they trust to be who they are: over TLS, and on this machine.
    if let Some(site) = text("sec-fetch-site") {
        return site == "same-origin";
    }
    let host = text(HOST.as_str()).or_else(|| uri.authority().map(Authority::as_str));
    match (text(ORIGIN.as_str()), host) {
        (Some(origin), Some(host)) => {
            let authority = origin
                .strip_prefix("http://")
                .or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => false,
        (None, _) => method.is_safe(),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn judged(method: &Method, headers: &[(&'static str, &'static str)]) -> bool {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        is_same_origin(method, &Uri::from_static("/v1/events"), &headers.collect())
    }

    #[test]
    fn only_a_page_of_this_origin_is_taken_for_one() {
        let (mark, host) = ((MARK, "1"), ("host", "a.example:8080"));
        assert!(judged(
            &Method::POST,
            &[mark, host, ("sec-fetch-site", "same-origin")]
        ));
        assert!(judged(
            &Method::POST,
            &[mark, host, ("origin", "https://a.example:8080")]
        ));
        assert!(judged(&Method::GET, &[mark, host]));
        for wrong in [
            &[host, ("sec-fetch-site", "same-origin")][..],
            &[mark, host, ("sec-fetch-site", "same-site")],
            &[
                mark,
                host,
                ("sec-fetch-site", "cross-site"),
                ("origin", "http://a.example:8080"),
            ],
            &[mark, host, ("sec-fetch-site", "none")],
            &[mark, host, ("origin", "https://evil.example")],
            &[mark, host, ("origin", "https://a.example")],
            &[mark, host, ("origin", "null")],
            &[mark, ("origin", "https://a.example:8080")],
            &[mark, host],
        ] {
            assert!(!judged(&Method::POST, wrong), "{wrong:?}");
        }
    }
}
