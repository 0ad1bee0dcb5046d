//! `/v1/portal`: what the organisation sets of its portal.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use crate::app::App;
use crate::domain::accounts::portal::PortalSettings;
use crate::http::admission::callers::OrganizationManager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals};

/// Largest body: the largest picture in base64, and the rest.
const MAX_BYTES: usize = 128 * 1024;

/// Shows what the organisation's portal looks like, and which web pages may embed it.
#[utoipa::path(
    get,
    path = "/v1/portal",
    operation_id = "show_portal",
    tag = "portal",
    security(("api_key" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "The portal.", body = PortalSettings),
        KeyRefusals,
        (status = 404, description = "The key is bound to a tenant.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<Json<PortalSettings>, ApiError> {
    Ok(Json(app.store.portal_settings(org_id).await?))
}

/// Sets all of the organisation's portal. Pages that are open show it when they are loaded again.
#[utoipa::path(
    put,
    path = "/v1/portal",
    operation_id = "put_portal",
    tag = "portal",
    security(("api_key" = []), ("bearer" = [])),
    request_body = PortalSettings,
    responses(
        (status = 200, description = "The portal as it is now.", body = PortalSettings),
        KeyRefusals, FormRefusals,
        (status = 404, description = "The key is bound to a tenant.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 128 KiB.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
    mut body: RequestBody,
) -> Result<Json<PortalSettings>, ApiError> {
    let settings: PortalSettings = body.large_form(MAX_BYTES).await?;
    settings.check()?;
    let store = app.store.by(admitted.actor());
    store.write_portal_settings(org_id, &settings).await?;
    Ok(Json(settings))
}
