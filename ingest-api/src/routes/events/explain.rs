//! `/admin/v1/events/{id}/explain`.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Json;
use axum::extract::State;
use shared::db::explain::Explanation;
use shared::domain::id::EventId;

use crate::app::App;
use crate::http::admission::callers::AdminReader;
use crate::http::error::{ApiError, Problem};
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::AdminRefusals;

/// Tells the story of an event in words: when it came, which endpoints it goes to and why not to the others, each attempt,
/// and what it waits for now.
#[utoipa::path(
    get,
    path = "/admin/v1/events/{id}/explain",
    operation_id = "explain_event",
    tag = "admin",
    security(("admin_token" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The story.", body = Explanation),
        AdminRefusals,
        (status = 404, description = "No such event is stored, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn explain(
    _: AdminReader,
    State(app): State<Arc<App>>,
    PathId(id): PathId<EventId>,
) -> Result<Json<Explanation>, ApiError> {
    let facts = app.store.find_facts(id).await?.ok_or(ApiError::NotFound)?;
    let told = tokio::task::spawn_blocking(move || facts.explain()).await;
    let explanation = told
        .context("an explanation died")
        .and_then(|explanation| explanation.context("an endpoint's filter cannot be read"));
    Ok(Json(explanation.map_err(ApiError::Internal)?))
}
