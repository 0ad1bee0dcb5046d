//! `DELETE /v1/events/{id}/data`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use shared::domain::id::EventId;

use crate::app::App;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::{KeyRefusals, NoEvent};

/// Removes an event's payload for good.
///
/// The receivers' answers are removed too, and pending deliveries become dead. The event, its attributes and the record
/// of its deliveries stay.
#[utoipa::path(
    delete,
    path = "/v1/events/{id}/data",
    operation_id = "remove_event_data",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 204, description = "The payload is removed."),
        KeyRefusals, NoEvent,
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EventId>,
    Manager { realm, .. }: Manager,
) -> Result<StatusCode, ApiError> {
    let places = app.store.find_event_places(&realm, id).await?;
    if places.is_empty() {
        return Err(ApiError::NotFound);
    }
    for place in places {
        app.store.expunge_event(place).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
