//! `GET /v1/dead-deliveries`: the dead deliveries of all endpoints, by endpoint and cause.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::domain::delivery::Outcome;
use shared::domain::id::EndpointId;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::routes::openapi::refusals::KeyRefusals;
use crate::store::DeadRow;

/// Dead deliveries in groups.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadDeliveries {
    /// The groups, the largest first.
    groups: Vec<DeadGroup>,
}

/// Dead deliveries of an endpoint whose last attempts ended alike.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeadGroup {
    /// The endpoint.
    #[schema(value_type = String, format = Uuid)]
    endpoint_id: EndpointId,
    /// Where its deliveries are sent; null when they are fetched.
    url: Option<String>,
    /// How the last attempts ended; null when there were none.
    outcome: Option<Outcome>,
    /// How many there are.
    deliveries: i64,
    /// Whether the endpoint has more dead deliveries than are looked at, so that there may be more.
    capped: bool,
    /// When the oldest of their events was accepted.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    oldest_accepted_at: OffsetDateTime,
}

impl From<DeadRow> for DeadGroup {
    fn from(row: DeadRow) -> Self {
        Self {
            endpoint_id: row.endpoint_id,
            url: row.url,
            outcome: row.outcome,
            deliveries: row.deliveries,
            capped: row.has_more,
            oldest_accepted_at: row.oldest,
        }
    }
}

/// Counts the dead deliveries of all endpoints by endpoint and cause. `POST /v1/endpoints/{id}/recover` delivers those of an
/// endpoint again.
///
/// It looks at the newest 1 000 endpoints, at the oldest 1 000 dead deliveries of each, and at 10 000 in all.
#[utoipa::path(
    get,
    path = "/v1/dead-deliveries",
    operation_id = "count_dead_deliveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    responses((status = 200, description = "The groups.", body = DeadDeliveries), KeyRefusals),
)]
pub(crate) async fn count(
    State(app): State<Arc<App>>,
    Manager { realm, .. }: Manager,
) -> Result<Json<DeadDeliveries>, ApiError> {
    let rows = app.store.dead_deliveries(&realm).await?;
    let groups = rows.into_iter().map(Into::into).collect();
    Ok(Json(DeadDeliveries { groups }))
}
