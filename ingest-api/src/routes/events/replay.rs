//! Delivering an event again: all of it, or to one endpoint.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use shared::domain::id::{EndpointId, EventId};
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::{PathId, PathIds};
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEvent};
use crate::store::{EventPlace, Replayed};

const EXPUNGED: ApiError = ApiError::Conflict("the event's payload was removed");
const IN_PROGRESS: ApiError = ApiError::Conflict("an attempt of this delivery is in progress");

/// Which deliveries to repeat.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ReplayRequest {
    /// Only the delivery to this endpoint, which gets one if it had none. Unless given, all deliveries of the event.
    #[schema(value_type = Option<String>, format = Uuid)]
    endpoint_id: Option<EndpointId>,
}

/// The deliveries that are due again.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ReplayOutcome {
    /// The event. Its deliveries carry the same `webhook-id` as before.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// The endpoints to which it is due again. Deliveries with an attempt in progress are not touched.
    #[schema(value_type = Vec<String>)]
    endpoint_ids: Vec<EndpointId>,
}

/// Delivers an event again, whatever the status of its deliveries.
///
/// The retry policy starts over. With `endpoint_id`, an enabled endpoint that had no delivery gets one.
#[utoipa::path(
    post,
    path = "/v1/events/{id}/replay",
    operation_id = "replay_event",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    request_body = Option<ReplayRequest>,
    responses(
        (status = 202, description = "It is due again.", body = ReplayOutcome),
        KeyRefusals, FormRefusals, NoEvent,
        (status = 409, description = "Its payload was removed, or the named endpoint's attempt is in progress, or that endpoint has no delivery and is disabled, or its tenant is.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EventId>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<ReplayOutcome>), ApiError> {
    let event = find_place(&app, &realm, id).await?;
    let ReplayRequest { endpoint_id } = body.optional_form().await?;
    let endpoint_ids = match endpoint_id {
        None => revived(app.store.replay_event(event, &realm, None).await?)?,
        Some(endpoint_id) => replay_to(&app, event, &realm, endpoint_id).await?,
    };
    Ok((StatusCode::ACCEPTED, Json(ReplayOutcome { id, endpoint_ids })))
}

/// Tries a delivery again now. It may be pending, dead or delivered.
#[utoipa::path(
    post,
    path = "/v1/events/{id}/deliveries/{endpoint_id}/retry",
    operation_id = "retry_delivery",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid), ("endpoint_id" = String, Path, format = Uuid)),
    responses(
        (status = 202, description = "It is due now.", body = ReplayOutcome),
        KeyRefusals,
        (status = 404, description = "The organisation has no such event, or the event has no delivery to such an endpoint.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "Its payload was removed, or an attempt is in progress.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    PathIds(id, endpoint_id): PathIds<EventId, EndpointId>,
    Manager { realm, .. }: Manager,
) -> Result<(StatusCode, Json<ReplayOutcome>), ApiError> {
    let event = find_place(&app, &realm, id).await?;
    let endpoint = app.store.find_brief_endpoint(&realm, endpoint_id).await?;
    if endpoint.is_none() || !app.store.has_delivery(event, endpoint_id).await? {
        return Err(ApiError::NotFound);
    }
    let endpoint_ids = revived(app.store.replay_event(event, &realm, Some(endpoint_id)).await?)?;
    if endpoint_ids.is_empty() {
        return Err(IN_PROGRESS);
    }
    Ok((StatusCode::ACCEPTED, Json(ReplayOutcome { id, endpoint_ids })))
}

async fn replay_to(
    app: &App,
    event: EventPlace,
    realm: &Realm,
    endpoint_id: EndpointId,
) -> Result<Vec<EndpointId>, ApiError> {
    let endpoint = app.store.find_brief_endpoint(realm, endpoint_id).await?;
    let endpoint =
        endpoint.ok_or_else(|| ApiError::invalid("endpoint_id", "is not an endpoint of the organisation"))?;
    let again = revived(app.store.replay_event(event, realm, Some(endpoint_id)).await?)?;
    if !again.is_empty() {
        return Ok(again);
    }
    if app.store.has_delivery(event, endpoint_id).await? {
        return Err(IN_PROGRESS);
    }
    if !endpoint.enabled {
        return Err(ApiError::Conflict("the endpoint is disabled"));
    }
    if !app.store.may_get(event, endpoint_id).await? {
        return Err(ApiError::invalid(
            "endpoint_id",
            "does not get the events of this event's tenant",
        ));
    }
    revived(app.store.add_delivery(event, endpoint_id).await?)
}

fn revived(replayed: Replayed) -> Result<Vec<EndpointId>, ApiError> {
    match replayed {
        Replayed::Expunged => Err(EXPUNGED),
        Replayed::Revived(endpoint_ids) => Ok(endpoint_ids),
    }
}

/// Where an event is stored. There are several places when its idempotency key was used again after a day; this is the
/// newest.
async fn find_place(app: &App, realm: &Realm, id: EventId) -> Result<EventPlace, ApiError> {
    let places = app.store.find_event_places(realm, id).await?;
    places.first().copied().ok_or(ApiError::NotFound)
}
