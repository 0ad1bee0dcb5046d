//! `/v1/events`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use shared::clock::UnixMicros;
use shared::event::{Event, JSON};
use shared::frame::EncodedEvent;
use shared::id::EventId;

use crate::admission::Admitted;
use crate::auth::Scope;
use crate::error::ApiError;
use crate::router::App;
use crate::routes::body::read_json;
use crate::validate::{Envelope, traceparent};

/// Largest event, envelope included, in bytes.
pub const MAX_EVENT_BYTES: usize = 256 * 1024;

/// The answer to an accepted event.
#[derive(Debug, Serialize)]
pub struct Accepted {
    /// The id under which it is stored, and which receivers see as `webhook-id`.
    id: EventId,
}

/// `POST /v1/events`: 202 once the event is on disk.
///
/// # Errors
/// 400, 401, 403, 408, 413, 415, 422, 429 or 503 as problem+json.
pub async fn create(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Accepted>), ApiError> {
    let org_id = admitted.organization_with(Scope::Ingest)?;
    let body = read_json(&headers, body, MAX_EVENT_BYTES, app.body_timeout).await?;
    let mut envelope = Envelope::parse(&body)?;
    envelope.merge_idempotency_header(&headers)?;
    let accepted_at = UnixMicros::now();
    let key = envelope.idempotency_key.as_deref();
    let event = Event {
        id: key.map_or_else(|| EventId::at(accepted_at), |key| EventId::for_key(org_id, key)),
        org_id,
        event_type: &envelope.event_type,
        accepted_at,
        content_type: JSON,
        idempotency_key: key,
        traceparent: traceparent(&headers),
        data: envelope.data.get().as_bytes(),
    };
    app.publisher.publish(org_id, EncodedEvent::new(&event)).await?;
    Ok((StatusCode::ACCEPTED, Json(Accepted { id: event.id })))
}
