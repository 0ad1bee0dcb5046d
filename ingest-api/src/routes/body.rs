//! Reading request bodies, bounded in size, in time and in memory.

use std::error::Error as _;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::error::Category;
use shared::event::JSON;
use tokio::time::timeout;

use crate::bodies::{BodyLimits, Gathered};
use crate::error::ApiError;
use crate::guarded_body::KeyChanged;

/// Largest body of the management routes, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// Media type of a change in which null is a value.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// Reads a body. Bytes are counted as they arrive, whatever the headers announce. What it returns gives its memory back
/// when it is dropped.
///
/// # Errors
/// 413 past `limit`, 408 past the time, 503 when all bodies together take too much memory, 415 when it is compressed, 400
/// when the connection breaks.
pub async fn read(
    headers: &HeaderMap,
    body: Body,
    limit: usize,
    bodies: &BodyLimits,
) -> Result<Bytes, ApiError> {
    if headers
        .get(CONTENT_ENCODING)
        .is_some_and(|encoding| encoding != "identity")
    {
        return Err(ApiError::UnsupportedMediaType(
            "send the body without a Content-Encoding".into(),
        ));
    }
    // Before anything is read: who waits for a word to go on gets this instead.
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::TooLarge { limit });
    }
    match timeout(bodies.timeout, gather(body, limit, bodies)).await {
        Ok(read) => read,
        Err(_) => Err(ApiError::BodyTimeout),
    }
}

/// Reads a body to its end, or until it is refused. One that comes in one piece, as most do, is not copied.
async fn gather(mut body: Body, limit: usize, bodies: &BodyLimits) -> Result<Bytes, ApiError> {
    let mut gathered: Option<Gathered> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(piece) = frame.into_data() else { continue };
        let length = gathered.as_ref().map_or(0, Gathered::len) + piece.len();
        if length > limit {
            return Err(ApiError::TooLarge { limit });
        }
        if gathered.is_none() && body.is_end_stream() {
            return Ok(piece);
        }
        let announced = body.size_hint().upper().and_then(|rest| rest.try_into().ok());
        let most = announced.map_or(limit, |rest| limit.min(length.saturating_add(rest)));
        let gathered = gathered.get_or_insert_with(|| bodies.empty_body());
        gathered.append(&piece, most)?;
    }
    Ok(gathered.map(Bytes::from_owner).unwrap_or_default())
}

fn broken(error: &axum::Error) -> ApiError {
    let mut causes = std::iter::successors(error.source(), |&cause| cause.source());
    match causes.find_map(|cause| cause.downcast_ref::<KeyChanged>()) {
        Some(changed) => (*changed).into(),
        None => ApiError::Malformed(format!("the body cannot be read: {error}")),
    }
}

/// The media type of a body, in lower case and without parameters.
pub fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
    Some(
        value
            .split(';')
            .next()
            .unwrap_or_default()
            .trim()
            .to_ascii_lowercase(),
    )
}

/// Refuses a body that is not announced as JSON.
///
/// # Errors
/// 415.
pub fn require_json(headers: &HeaderMap) -> Result<(), ApiError> {
    if media_type(headers).as_deref() == Some(JSON) {
        return Ok(());
    }
    Err(ApiError::UnsupportedMediaType(
        "send `Content-Type: application/json`".into(),
    ))
}

/// Reads the body of a management route.
///
/// # Errors
/// As [`read`], 415 when it is not JSON, and 422 with the wrong field.
pub async fn read_form<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bodies: &BodyLimits,
) -> Result<T, ApiError> {
    require_json(headers)?;
    parse_form(&read(headers, body, MAX_FORM_BYTES, bodies).await?)
}

/// Reads a change: JSON, or called the merge patch (RFC 7396) that it is.
///
/// # Errors
/// As [`read_form`].
pub async fn read_change<T: DeserializeOwned>(
    headers: &HeaderMap,
    body: Body,
    bodies: &BodyLimits,
) -> Result<T, ApiError> {
    if !matches!(media_type(headers).as_deref(), Some(JSON | MERGE_PATCH)) {
        let detail = format!("send `Content-Type: {JSON}` or `{MERGE_PATCH}`");
        return Err(ApiError::UnsupportedMediaType(detail.into()));
    }
    parse_form(&read(headers, body, MAX_FORM_BYTES, bodies).await?)
}

/// Reads the body of a management route that may also be left out. One that comes in chunks is seen to be empty at its end.
///
/// # Errors
/// As [`read_form`].
pub async fn read_optional_form<T: DeserializeOwned + Default>(
    headers: &HeaderMap,
    body: Body,
    bodies: &BodyLimits,
) -> Result<T, ApiError> {
    let bytes = read(headers, body, MAX_FORM_BYTES, bodies).await?;
    if bytes.is_empty() {
        return Ok(T::default());
    }
    require_json(headers)?;
    parse_form(&bytes)
}

fn parse_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        if error.classify() == Category::Data {
            let field = if path == "." { "body".to_owned() } else { path };
            ApiError::invalid(&field, error.to_string())
        } else {
            ApiError::not_json(&error)
        }
    })?;
    let end = deserializer.end();
    end.map_err(|error| ApiError::not_json(&error))?;
    Ok(value)
}
