//! `POST /v1/endpoints/{id}/filter/preview`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::event::is_json;
use shared::domain::event_type;
use shared::domain::id::{EndpointId, EventId};
use time::OffsetDateTime;
use tokio::task::yield_now;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::domain::form::field_errors::check_range;
use crate::domain::form::whole;
use crate::http::admission::callers::Manager;
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::routes::endpoints::find;
use crate::routes::endpoints::form::schema;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEndpoint};
use crate::routes::trials::filters::judge::{Judge, Sample, Verdict};
use crate::store::{EndpointRow, EventFilter, EventRow};

const EVENTS: std::ops::RangeInclusive<i32> = 1..=100;

/// What a preview is to look at.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PreviewRequest {
    /// The filter to try; the endpoint's own unless given.
    #[schema(schema_with = schema::filter)]
    filter: Option<Box<RawValue>>,
    /// How many of the newest events are looked at.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 100, default = 50)]
    events: i32,
}

impl Default for PreviewRequest {
    fn default() -> Self {
        Self {
            filter: None,
            events: 50,
        }
    }
}

/// What a filter makes of an endpoint's newest events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Preview {
    /// Those of the newest events whose type the endpoint wants, newest first.
    events: Vec<PreviewedEvent>,
    /// How many events were looked at, of any type.
    looked_at: usize,
}

/// An event, and whether the filter lets it pass.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewedEvent {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    event_type: String,
    /// Whose event it is.
    tenant: Option<String>,
    /// When it was accepted.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    accepted_at: OffsetDateTime,
    #[serde(flatten)]
    verdict: Verdict,
}

/// Tells which of an endpoint's newest events a filter would have let pass.
///
/// It looks at up to 100 events with up to 4 MiB of payloads. A payload that was removed passes no filter that asks about it.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/filter/preview",
    operation_id = "preview_filter",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    request_body = Option<PreviewRequest>,
    responses(
        (status = 200, description = "The events that were looked at.", body = Preview),
        KeyRefusals, FormRefusals, NoEndpoint,
    ),
)]
pub(crate) async fn preview(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<Json<Preview>, ApiError> {
    let endpoint = find(&app, &realm, id).await?;
    let request: PreviewRequest = body.optional_form().await?;
    check_range(&request.events, &EVENTS).map_err(|detail| ApiError::invalid("events", detail))?;
    let own = endpoint.filter.as_deref();
    let judge = match request.filter.as_deref().map(RawValue::get) {
        Some(given) => {
            Judge::new(Some(given)).map_err(|error| ApiError::invalid("filter", error.to_string()))?
        }
        None => Judge::new(own).map_err(|error| ApiError::Internal(error.into()))?,
    };
    // Held while payloads are in memory.
    let _share = app.answers.reserve().await?;
    let rows = newest_events(&app, &realm, &endpoint, request.events).await?;
    let looked_at = rows.len();
    let mut events = Vec::new();
    for row in rows {
        if is_wanted(&endpoint, &row) {
            events.push(previewed(&judge, row).await);
            yield_now().await;
        }
    }
    Ok(Json(Preview { events, looked_at }))
}

/// The newest events of the endpoint's tenant, or, for one that is no tenant's, of the organisation.
async fn newest_events(
    app: &App,
    realm: &Realm,
    endpoint: &EndpointRow,
    count: i32,
) -> Result<Vec<EventRow>, ApiError> {
    let filter = EventFilter {
        realm: Realm {
            org_id: realm.org_id,
            tenant: endpoint.tenant.clone(),
        },
        event_type: None,
        from: None,
        to: None,
        status: None,
        endpoint_id: None,
        seen_of: None,
        after: None,
        limit: i64::from(count),
    };
    let (rows, _) = app.store.list_events(&filter).await?;
    Ok(rows)
}

/// Whether the endpoint gets such events, whatever its filter says.
fn is_wanted(endpoint: &EndpointRow, event: &EventRow) -> bool {
    let is_its = endpoint.all_tenants || endpoint.tenant.is_some() || event.tenant.is_none();
    is_its && event_type::wants(&endpoint.event_types, &event.event_type)
}

async fn previewed(judge: &Judge, row: EventRow) -> PreviewedEvent {
    let verdict = judge
        .judge(Sample {
            event_type: &row.event_type,
            tenant: row.tenant.as_deref(),
            data: is_json(&row.content_type).then_some(row.data.as_slice()),
        })
        .await;
    PreviewedEvent {
        id: row.id,
        event_type: row.event_type,
        tenant: row.tenant,
        accepted_at: row.accepted_at,
        verdict,
    }
}
