//! Versions of resources, as `ETag` shows and `If-Match` compares them.

use axum::Json;
use axum::http::header::{ETAG, IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::error::ApiError;

/// A resource with the version that `If-Match` compares.
pub(crate) type Shown<T> = ([(HeaderName, HeaderValue); 1], Json<T>);

/// The header that tells a version.
pub(crate) fn etag(version: i64) -> [(HeaderName, HeaderValue); 1] {
    let tag = HeaderValue::try_from(format!("\"{version}\"")).expect("digits and quotes are ASCII");
    [(ETAG, tag)]
}

/// Whether a request holds for one version only.
pub(crate) fn is_conditional(headers: &HeaderMap) -> bool {
    headers.contains_key(IF_MATCH)
}

/// Whether a request holds only while the resource is not there: `If-None-Match: *` (RFC 9110, 13.1.2).
///
/// # Errors
/// 422 when it names versions.
pub(crate) fn is_for_new(headers: &HeaderMap) -> Result<bool, ApiError> {
    match headers.get(IF_NONE_MATCH) {
        None => Ok(false),
        Some(value) if value == "*" => Ok(true),
        Some(_) => Err(ApiError::invalid("If-None-Match", "must be `*`")),
    }
}

/// Checks that `If-Match`, when there is one, names this version (RFC 9110, 13.1.1).
///
/// # Errors
/// 412 when it names others.
pub(crate) fn check_match(headers: &HeaderMap, version: i64) -> Result<(), ApiError> {
    let mut tags = headers
        .get_all(IF_MATCH)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(<[u8]>::trim_ascii)
        .peekable();
    let current = format!("\"{version}\"");
    if tags.peek().is_none() || tags.any(|tag| tag == b"*" || tag == current.as_bytes()) {
        return Ok(());
    }
    Err(ApiError::PreconditionFailed)
}
