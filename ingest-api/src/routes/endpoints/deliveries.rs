//! `/v1/endpoints/{id}/deliveries`: the deliveries of one endpoint, and how their last attempts ended.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::{EndpointId, EventId};
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::find;
use crate::app::App;
use crate::domain::page::Page;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::http::request::extract::{Params, PathId};
use crate::routes::openapi::refusals::{KeyRefusals, ListRefusals, NoEndpoint};
use crate::routes::page::{ThisPage, page};
use crate::store::{DeliveryFilter, EndpointDeliveryRow, MAX_COUNTED, OutcomeCount};

/// Which deliveries to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryParams {
    /// Only deliveries in this status; `dead` unless given.
    #[param(inline)]
    status: Option<DeliveryStatus>,
    /// Only deliveries whose last attempt ended like this.
    #[param(inline)]
    outcome: Option<Outcome>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// Most deliveries on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

/// A page of an endpoint's deliveries.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryPage {
    /// Pending ones in the order in which they are due, others newest first.
    data: Vec<EndpointDelivery>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// An event's delivery to the endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointDelivery {
    /// The event.
    #[schema(value_type = String, format = Uuid)]
    event_id: EventId,
    /// The event's type.
    event_type: String,
    /// When the event was accepted.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    accepted_at: OffsetDateTime,
    /// Where it stands.
    status: DeliveryStatus,
    /// How many attempts have ended.
    attempts: i32,
    /// How the last one ended; null when there was none.
    last_outcome: Option<Outcome>,
    /// When the next attempt begins; null when there is none, or one is in progress.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    next_attempt_at: Option<OffsetDateTime>,
    /// When it was delivered or given up.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    finished_at: Option<OffsetDateTime>,
}

impl From<EndpointDeliveryRow> for EndpointDelivery {
    fn from(row: EndpointDeliveryRow) -> Self {
        Self {
            event_id: row.event_id,
            event_type: row.event_type,
            accepted_at: row.accepted_at,
            status: row.status,
            attempts: row.attempts,
            last_outcome: row.last_outcome,
            next_attempt_at: row.next_attempt_at,
            finished_at: row.finished_at,
        }
    }
}

/// Lists an endpoint's deliveries by status and by how their last attempt ended.
///
/// A request for `delivered` looks at 10 000 events at most. A request for another status with an `outcome` looks at 10
/// 000 deliveries at most. So a page may hold fewer than `limit`, or none, and still have a next page.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}/deliveries",
    operation_id = "list_endpoint_deliveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid), DeliveryParams),
    responses(
        (status = 200, description = "A page of deliveries.", body = DeliveryPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals, NoEndpoint,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    this_page: ThisPage,
    Params(params): Params<DeliveryParams>,
    Manager { realm, .. }: Manager,
) -> Result<(HeaderMap, Json<DeliveryPage>), ApiError> {
    let endpoint = find(&app, &realm, endpoint_id).await?;
    let page: Page<Uuid> = page(params.cursor.as_deref(), params.limit)?;
    let filter = DeliveryFilter {
        org_id: realm.org_id,
        tenant: endpoint.tenant,
        endpoint_id,
        status: params.status.unwrap_or(DeliveryStatus::Dead),
        outcome: params.outcome,
        after: page.after,
        limit: page.limit,
    };
    let (rows, next) = app.store.list_endpoint_deliveries(&filter).await?;
    let next_cursor = next.map(|cursor| cursor.encode());
    let links = this_page.links(next_cursor.as_deref());
    let data = rows.into_iter().map(Into::into).collect();
    Ok((links, Json(DeliveryPage { data, next_cursor })))
}

/// An endpoint's pending and dead deliveries, counted by their last outcome.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliverySummary {
    /// Deliveries that wait for their first attempt or for the next one.
    pending: OutcomeCounts,
    /// Deliveries that get no further attempt.
    dead: OutcomeCounts,
}

/// Deliveries of one status.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct OutcomeCounts {
    /// How many there are; 10 000 when there are more.
    total: i64,
    /// Whether there are more than 10 000. Then an arbitrary 10 000 of them were counted.
    capped: bool,
    /// The counts by outcome, most frequent first.
    outcomes: Vec<CountedOutcome>,
}

/// The number of deliveries whose last attempt ended in one way.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CountedOutcome {
    /// How the last attempt ended; null when there was none yet.
    outcome: Option<Outcome>,
    /// How many there are.
    count: i64,
}

impl OutcomeCounts {
    fn new<'a>(counts: impl Iterator<Item = &'a OutcomeCount>) -> Self {
        let outcomes: Vec<_> = counts
            .map(|counted| CountedOutcome {
                outcome: counted.last_outcome,
                count: counted.count,
            })
            .collect();
        let total = outcomes.iter().map(|counted| counted.count).sum::<i64>();
        Self {
            total: total.min(MAX_COUNTED),
            capped: total > MAX_COUNTED,
            outcomes,
        }
    }
}

/// Counts an endpoint's pending and dead deliveries by how their last attempt ended.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}/deliveries/summary",
    operation_id = "summarize_endpoint_deliveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The counts.", body = DeliverySummary),
        KeyRefusals, NoEndpoint,
    ),
)]
pub(crate) async fn summary(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
) -> Result<Json<DeliverySummary>, ApiError> {
    find(&app, &realm, endpoint_id).await?;
    let counts = app.store.count_outcomes(realm.org_id, endpoint_id).await?;
    let of = |status: DeliveryStatus| OutcomeCounts::new(counts.iter().filter(move |c| c.status == status));
    Ok(Json(DeliverySummary {
        pending: of(DeliveryStatus::Pending),
        dead: of(DeliveryStatus::Dead),
    }))
}
