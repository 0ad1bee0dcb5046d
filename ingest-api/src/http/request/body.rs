//! Reading request bodies, bounded in size, in time and in memory.

use std::borrow::Cow;
use std::convert::Infallible;
use std::error::Error as _;
use std::pin::pin;
use std::sync::Arc;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use bytes::Bytes;
use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use shared::domain::event::JSON;
use shared::domain::id::EventId;
use shared::domain::json::repeated_name;
use tokio::time::timeout;

use crate::app::App;
use crate::domain::form::json::in_words;
use crate::event::json::without_mark;
use crate::http::admission::admitted::{Admitted, KeyChanged};
use crate::http::error::ApiError;
use crate::http::request::body_limits::BodyLimits;
use crate::http::request::decompress::{codings, compressed_limit, decompress};
use crate::http::request::guarded_body::GuardedBody;
use crate::http::request::room::Held;
use crate::http::trace::context::CarriedTrace;
use crate::http::trace::{Publishing, Traced};

/// Largest body of the management routes, in bytes.
const MAX_FORM_BYTES: usize = 64 * 1024;

/// Media type of a change in which null is a value.
const MERGE_PATCH: &str = "application/merge-patch+json";

/// The one extractor of bodies. It reads nothing yet, so that a handler can refuse a request before its body has come.
#[derive(Debug)]
pub(crate) struct RequestBody {
    /// The request's headers.
    pub headers: HeaderMap,
    body: GuardedBody,
    app: Arc<App>,
    /// What its events belong to, when it is traced.
    traced: Option<Traced>,
}

impl FromRequest<Arc<App>> for RequestBody {
    type Rejection = Infallible;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Infallible> {
        let (parts, body) = request.into_parts();
        let traced = app.traces.as_ref().and_then(|_| parts.extensions.get().cloned());
        let admitted = parts.extensions.get::<Admitted>();
        Ok(Self {
            body: GuardedBody::new(body, admitted.map(|admitted| admitted.admittance().clone())),
            headers: parts.headers,
            app: app.clone(),
            traced,
        })
    }
}

impl RequestBody {
    /// What the request's events carry on of its trace.
    pub(crate) fn trace(&self) -> CarriedTrace<'_> {
        let with_baggage = self.app.traces.is_some() && self.app.carries_baggage;
        CarriedTrace::of(&self.headers, self.traced.as_ref(), with_baggage)
    }

    /// Begins to publish one of the request's events.
    pub(crate) fn publishing(&self, id: EventId) -> Publishing {
        Publishing::begin(self.traced.as_ref(), id)
    }

    /// The media type in lower case and without parameters.
    pub(crate) fn media_type(&self) -> Option<Cow<'_, str>> {
        let value = self.headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let media_type = value.split(';').next().unwrap_or_default().trim();
        let mut lower = Cow::Borrowed(media_type);
        if media_type.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower.to_mut().make_ascii_lowercase();
        }
        Some(lower)
    }

    /// Refuses a body that is not announced as JSON.
    ///
    /// # Errors
    /// 415.
    pub(crate) fn require_json(&self) -> Result<(), ApiError> {
        if self.media_type().as_deref() == Some(JSON) {
            return Ok(());
        }
        Err(ApiError::UnsupportedMediaType(
            "send `Content-Type: application/json`".into(),
        ))
    }

    /// Reads the body and decompresses it when it has a `Content-Encoding`; afterwards the body is empty. The limits count
    /// the bytes that arrive and the bytes that come out of a decoder, not those that the headers announce. Dropping the
    /// result frees its share of the memory.
    ///
    /// # Errors
    /// 413 past `limit`; 408 when it takes too long; 503 when all bodies together take too much memory; 415 when its coding
    /// is neither gzip nor zstd; 400 when it does not match its coding, or the connection breaks.
    pub(crate) async fn read(&mut self, limit: usize) -> Result<Bytes, ApiError> {
        let body = std::mem::take(&mut self.body);
        if self.headers.contains_key(CONTENT_ENCODING) {
            // In a box: most bodies are not compressed.
            return Box::pin(read_coded(&self.headers, body, limit, &self.app.bodies)).await;
        }
        read_plain(body, limit, &self.app.bodies).await
    }

    /// Reads the body of a management route.
    ///
    /// # Errors
    /// As [`Self::read`], 415 when it is not JSON, and 422 with the wrong field.
    pub(crate) async fn form<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        self.require_json()?;
        parse_form(&self.read(MAX_FORM_BYTES).await?)
    }

    /// Reads the body of a management route that may be larger than the others.
    ///
    /// # Errors
    /// As [`Self::form`].
    pub(crate) async fn large_form<T: DeserializeOwned>(&mut self, limit: usize) -> Result<T, ApiError> {
        self.require_json()?;
        parse_form(&self.read(limit).await?)
    }

    /// Reads a change, as JSON or as a merge patch (RFC 7396).
    ///
    /// # Errors
    /// As [`Self::form`].
    pub(crate) async fn change<T: DeserializeOwned>(&mut self) -> Result<T, ApiError> {
        if !matches!(self.media_type().as_deref(), Some(JSON | MERGE_PATCH)) {
            let detail = format!("send `Content-Type: {JSON}` or `{MERGE_PATCH}`");
            return Err(ApiError::UnsupportedMediaType(detail.into()));
        }
        parse_form(&self.read(MAX_FORM_BYTES).await?)
    }

    /// Reads the body of a management route that may be left out or null. Only its end shows that a chunked body is empty.
    ///
    /// # Errors
    /// As [`Self::form`].
    pub(crate) async fn optional_form<T: DeserializeOwned + Default>(&mut self) -> Result<T, ApiError> {
        let bytes = self.read(MAX_FORM_BYTES).await?;
        if bytes.is_empty() {
            return Ok(T::default());
        }
        self.require_json()?;
        let form: Option<T> = parse_form(&bytes)?;
        Ok(form.unwrap_or_default())
    }
}

async fn read_coded(
    headers: &HeaderMap,
    body: GuardedBody,
    limit: usize,
    bodies: &BodyLimits,
) -> Result<Bytes, ApiError> {
    let codings = codings(headers)?;
    if codings.is_empty() {
        return read_plain(body, limit, bodies).await;
    }
    let sent = read_plain(body, compressed_limit(limit), bodies).await;
    let sent = sent.map_err(|error| match error {
        ApiError::TooLarge { .. } => ApiError::TooLarge { limit },
        other => other,
    })?;
    let _turn = bodies.decoder().await?;
    decompress(sent, &codings, limit, bodies).await
}

async fn read_plain(body: GuardedBody, limit: usize, bodies: &BodyLimits) -> Result<Bytes, ApiError> {
    // Before reading: a client that sent `Expect: 100-continue` then gets this answer instead of the 100.
    if body.size_hint().lower() > limit as u64 {
        return Err(ApiError::TooLarge { limit });
    }
    let mut gathering = pin!(gather(body, limit, bodies));
    // Most bodies have come with their headers, and need no timer.
    if let Some(read) = gathering.as_mut().now_or_never() {
        return read;
    }
    // In a box: a timer would make every request's future larger.
    let read = Box::pin(timeout(bodies.timeout, gathering)).await;
    read.unwrap_or(Err(ApiError::BodyTimeout))
}

/// Reads a body to its end, or until it is refused. Most bodies arrive in one piece, which is not copied.
async fn gather(mut body: GuardedBody, limit: usize, bodies: &BodyLimits) -> Result<Bytes, ApiError> {
    let mut gathered: Option<Held> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        let Ok(piece) = frame.into_data() else { continue };
        let length = gathered.as_ref().map_or(0, Held::len) + piece.len();
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

/// Reads a form. Valid JSON that the form cannot hold is 422. So is a name that stands twice in an object, also where the
/// form reads a map or keeps the JSON as it is, and an array.
fn parse_form<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let bytes = without_mark(bytes);
    let json: &RawValue = serde_json::from_slice(bytes).map_err(|error| ApiError::not_json(&error))?;
    if json.get().starts_with('[') {
        // Otherwise serde reads the fields from it, by their places.
        return Err(ApiError::invalid("body", "must be a JSON object"));
    }
    if let Some(repeated) = repeated_name(json.get()) {
        return Err(ApiError::invalid(&repeated.to_string(), "stands more than once"));
    }
    let mut deserializer = serde_json::Deserializer::from_str(json.get());
    serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let error = error.into_inner();
        let detail = if error.is_data() {
            error.to_string()
        } else {
            in_words(&error)
        };
        let field = if path == "." { "body" } else { &path };
        ApiError::invalid(field, detail)
    })
}

#[cfg(test)]
mod tests;
