//! `GET /v1/portal/session`: what a portal's page must know of its own session.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::domain::event_type::EventTypePattern;
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::session::Capability;
use crate::domain::accounts::portal::PortalSettings;
use crate::http::admission::callers::Manager;
use crate::http::admission::portal::PortalCaller;
use crate::http::error::{ApiError, Problem};
use crate::routes::openapi::refusals::KeyRefusals;

/// A portal session, as its page sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PortalSessionView {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: String,
    /// The tenant.
    tenant: Tenant,
    /// What it may do.
    capabilities: Vec<Capability>,
    /// The event types that its endpoints may choose from. Empty: every type.
    event_types: Vec<EventTypePattern>,
    /// Where its people came from.
    return_url: Option<String>,
    /// When it ends.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    expires_at: OffsetDateTime,
    /// What the portal looks like.
    portal: PortalSettings,
}

/// Shows the portal session whose token the request has.
#[utoipa::path(
    get,
    path = "/v1/portal/session",
    operation_id = "show_portal_session",
    tag = "portal",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The session.", body = PortalSessionView),
        KeyRefusals,
        (status = 404, description = "The request has an API key and no portal token.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    _: Manager,
    PortalCaller(session): PortalCaller,
) -> Result<Json<PortalSessionView>, ApiError> {
    let session = session.ok_or(ApiError::NotFound)?;
    let portal = app.store.portal_settings(session.org_id).await?;
    Ok(Json(PortalSessionView {
        id: session.id.to_string(),
        tenant: session.tenant.clone(),
        capabilities: session.capabilities.clone(),
        event_types: session.event_types.clone(),
        return_url: session.return_url.clone(),
        expires_at: session.expires_at.to_date_time(),
        portal,
    }))
}
