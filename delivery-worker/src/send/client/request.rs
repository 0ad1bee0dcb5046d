//! Requests, as the connections take them.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ACCEPT, HOST, HeaderMap, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use url::{Position, Url};

use super::identity::Identity;
use super::line::Line;

const OWN_NAME: HeaderValue = HeaderValue::from_static(concat!("Penstock/", env!("CARGO_PKG_VERSION")));

/// A request that can be made again.
pub(crate) struct Outbound<'a> {
    /// Where it goes.
    pub url: &'a Url,
    /// Its method.
    pub method: &'a Method,
    /// Its headers, made for each try.
    pub headers: &'a (dyn Fn() -> HeaderMap + Sync),
    /// Its body.
    pub body: &'a Bytes,
    /// The client certificate that its connection shows.
    pub identity: Option<&'a Identity>,
}

/// As a message of HTTP/2.
pub(super) fn request(outbound: &Outbound<'_>, uri: Uri) -> Request<Full<Bytes>> {
    let mut headers = (outbound.headers)();
    headers.entry(ACCEPT).or_insert(HeaderValue::from_static("*/*"));
    headers.entry(USER_AGENT).or_insert(OWN_NAME);
    let mut request = Request::new(Full::new(outbound.body.clone()));
    *request.method_mut() = outbound.method.clone();
    *request.uri_mut() = uri;
    *request.headers_mut() = headers;
    request
}

/// As a message of HTTP/1. It has the host in a header, and only the rest of the address in the request line.
pub(super) fn http1_request(outbound: &Outbound<'_>, uri: &Uri, line: &Arc<Line>) -> Request<Full<Bytes>> {
    let path = uri.path_and_query().cloned().map_or_else(Uri::default, Uri::from);
    let mut request = request(outbound, path);
    let host = &outbound.url[Position::BeforeHost..Position::AfterPort];
    if let Ok(host) = HeaderValue::from_str(host) {
        request.headers_mut().entry(HOST).or_insert(host);
    }
    let count = line.interim_counter();
    hyper::ext::on_informational(&mut request, move |_| count());
    request
}
