//! `DELETE /v1/events/{id}/data`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use shared::id::EventId;

use crate::admission::Admitted;
use crate::error::{ApiError, Problem};
use crate::extract::PathId;
use crate::router::App;
use crate::scope::Scope;

/// Removes an event's payload for good.
///
/// What receivers answered to it is removed too. What was not delivered yet is given up. The event, its attributes and
/// the record of its deliveries stay.
///
/// # Errors
/// 401, 403, 404, 429, 503.
#[utoipa::path(
    delete,
    path = "/v1/events/{id}/data",
    operation_id = "remove_event_data",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 204, description = "It is removed."),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such event, or no worker has stored it yet.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn remove(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    PathId(id): PathId<EventId>,
) -> Result<StatusCode, ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    let places = app.store.find_event_places(org_id, id).await?;
    if places.is_empty() {
        return Err(ApiError::NotFound);
    }
    for place in places {
        app.store.expunge_event(place).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
