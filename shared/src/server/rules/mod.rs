//! Rules of HTTP that hyper leaves to the application, because it serves proxies too: which host a request is for, how its
//! body is framed, and what its client expects before it sends it (RFC 9110, 9112, 9113).
//!
//! They are checked before anything is read of a body. A request that breaks one is answered with a problem (RFC 9457),
//! and its connection is closed, because it is not certain where the next request begins.

use std::task::{Context, Poll};

use axum::extract::Request;
use axum::http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_TYPE, EXPECT, HOST, HeaderName, TRANSFER_ENCODING,
};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, Version};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::{Either, Ready, ready};
use serde_json::json;
use tower::{Layer, Service};

/// Headers besides `Host` that may be there only once: of two, one program takes the first and another takes the
/// second.
const SINGLE: [HeaderName; 3] = [AUTHORIZATION, CONTENT_TYPE, HeaderName::from_static("x-api-key")];

/// The media type of problems.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// A problem without a type of its own: its status, and a text for a person.
pub(crate) fn problem(status: StatusCode, detail: &str) -> String {
    let problem = json!({
        "type": "about:blank",
        "title": status.canonical_reason(),
        "status": status.as_u16(),
        "detail": detail,
    });
    problem.to_string()
}

/// Why a request is not served.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    status: StatusCode,
    detail: String,
}

impl Refusal {
    fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail }
    }

    fn malformed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    fn into_response(self, version: Version) -> Response {
        let media_type = (CONTENT_TYPE, PROBLEM_JSON);
        let problem = problem(self.status, &self.detail);
        let mut response = (self.status, [media_type], problem).into_response();
        // HTTP/2 says where a request ends in another way.
        if version <= Version::HTTP_11 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
        }
        response
    }
}

/// Why a request may not be served. None when it may.
fn refusal<B>(request: &Request<B>) -> Option<Refusal> {
    let (version, headers) = (request.version(), request.headers());
    let checks = check_host(version, request.uri(), headers)
        .and_then(|()| check_codings(headers))
        .and_then(|()| check_expectations(version, headers))
        .and_then(|()| check_single(headers));
    checks.err()
}

/// Checks that a request names one host in a valid form. HTTP/1.0 needs none; HTTP/2 has a field of its own for it.
fn check_host(version: Version, uri: &Uri, headers: &HeaderMap) -> Result<(), Refusal> {
    let mut hosts = headers.get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::malformed("there is more than one `Host` header"));
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(Refusal::malformed("the `Host` header is not a host and a port"));
    }
    if version <= Version::HTTP_11 {
        if host.is_none() && version == Version::HTTP_11 {
            return Err(Refusal::malformed("there is no `Host` header"));
        }
        return Ok(());
    }
    match (uri.authority(), host) {
        (None, None) => Err(Refusal::malformed(
            "there is neither `:authority` nor a `Host` header",
        )),
        (Some(authority), _) if !is_host(authority.as_str().as_bytes()) => {
            Err(Refusal::malformed("`:authority` is not a host and a port"))
        }
        (Some(authority), Some(host)) if !is_same(uri, authority, host) => Err(Refusal::malformed(
            "`:authority` and the `Host` header name different hosts",
        )),
        _ => Ok(()),
    }
}

/// Whether both name one host and one port.
fn is_same(uri: &Uri, authority: &Authority, host: &HeaderValue) -> bool {
    let default = if uri.scheme_str() == Some("https") {
        ":443"
    } else {
        ":80"
    };
    let normal = |text: &str| {
        let text = text.to_ascii_lowercase();
        let text = text.strip_suffix(default).unwrap_or(&text);
        text.trim_end_matches(':').to_owned()
    };
    let host = host.to_str().map(normal);
    host.is_ok_and(|host| host == normal(authority.as_str()))
}

/// `uri-host [ ":" port ]` of RFC 9110, which may be empty.
fn is_host(text: &[u8]) -> bool {
    let is_port = |rest: &[u8]| match rest {
        [] => true,
        [b':', port @ ..] => port.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if let [b'[', rest @ ..] = text {
        let Some(end) = rest.iter().position(|byte| *byte == b']') else {
            return false;
        };
        let (address, port) = (&rest[..end], &rest[end + 1..]);
        let is_address = address.iter().all(|byte| is_name_byte(*byte) || *byte == b':');
        return !address.is_empty() && is_address && is_port(port);
    }
    let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
    is_name(&text[..end]) && is_port(&text[end..])
}

/// `reg-name` of RFC 3986.
fn is_name(mut text: &[u8]) -> bool {
    loop {
        text = match text {
            [] => return true,
            [b'%', a, b, rest @ ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit() => rest,
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

/// Of the codings of a body's transfer only `chunked` is known here, and it comes once. hyper has refused those that do
/// not end with it.
fn check_codings(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut chunked = 0;
    for coding in members(headers, &TRANSFER_ENCODING) {
        if !coding.eq_ignore_ascii_case("chunked") {
            let detail =
                format!("the transfer coding `{coding}` is not known here: send `chunked`, or a length");
            return Err(Refusal::new(StatusCode::NOT_IMPLEMENTED, detail));
        }
        chunked += 1;
    }
    if chunked > 1 {
        return Err(Refusal::malformed("the body is chunked more than once"));
    }
    Ok(())
}

/// HTTP/1.0 knows no expectations.
fn check_expectations(version: Version, headers: &HeaderMap) -> Result<(), Refusal> {
    if version == Version::HTTP_10 {
        return Ok(());
    }
    match members(headers, &EXPECT).find(|member| !member.eq_ignore_ascii_case("100-continue")) {
        None => Ok(()),
        Some(member) => Err(Refusal::new(
            StatusCode::EXPECTATION_FAILED,
            format!("the expectation `{member}` is not known here"),
        )),
    }
}

fn check_single(headers: &HeaderMap) -> Result<(), Refusal> {
    if headers.len() == headers.keys_len() {
        return Ok(());
    }
    match SINGLE
        .iter()
        .find(|name| headers.get_all(*name).iter().count() > 1)
    {
        None => Ok(()),
        Some(name) => Err(Refusal::malformed(format!(
            "there is more than one `{name}` header"
        ))),
    }
}

/// The members of a header that is a list. A value that is not text is an unknown member.
fn members<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter();
    let members = lines.flat_map(|line| line.to_str().unwrap_or("?").split(','));
    members.map(str::trim).filter(|member| !member.is_empty())
}

/// Layer that answers requests that break a rule.
#[derive(Clone, Copy, Debug)]
pub struct RulesLayer;

impl<S> Layer<S> for RulesLayer {
    type Service = Rules<S>;

    fn layer(&self, inner: S) -> Rules<S> {
        Rules(inner)
    }
}

/// The service of [`RulesLayer`].
#[derive(Clone, Debug)]
pub struct Rules<S>(S);

impl<S, B> Service<Request<B>> for Rules<S>
where
    S: Service<Request<B>, Response = Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<Response, S::Error>>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match refusal(&request) {
            None => Either::Left(self.0.call(request)),
            Some(refusal) => Either::Right(ready(Ok(refusal.into_response(request.version())))),
        }
    }
}

#[cfg(test)]
mod tests;
