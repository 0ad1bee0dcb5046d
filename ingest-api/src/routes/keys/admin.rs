//! `/admin/v1/organizations/{org_id}/keys`: any organisation's keys, for the operator.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use shared::domain::id::OrgId;

use super::{CreatedKey, KeyPage, KeyRequest, create_for, list_for, revoke_for};
use crate::app::App;
use crate::domain::access::key::KeyId;
use crate::domain::access::realm::Realm;
use crate::domain::access::scope::Scopes;
use crate::http::admission::callers::{Admin, AdminReader};
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::{Params, PathId, PathIds};
use crate::routes::openapi::refusals::{
    AdminChangeRefusals, AdminRefusals, FormRefusals, ListRefusals, NoNewKey, NoOrganization,
};
use crate::routes::organizations::refusal;
use crate::routes::page::{PageParams, ThisPage};

/// Makes a key for an organisation, with all scopes unless some are named.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations/{org_id}/keys",
    operation_id = "create_key_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, shown this once.", body = CreatedKey),
        AdminChangeRefusals, FormRefusals, NoNewKey,
        (status = 404, description = "No such organisation, or it has no such tenant, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The organisation has 1 000 valid keys, the most it may have, or is being deleted.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    Admin { actor }: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let request: KeyRequest = body.form().await?;
    request.check()?;
    let scopes = request.scopes.unwrap_or_else(Scopes::all);
    match create_for(&app, &Realm::of_organization(org_id), &actor, request, scopes).await {
        Err(ApiError::NotFound) => Err(refusal(&app, org_id).await?),
        made => made,
    }
}

/// Lists an organisation's keys, newest first, revoked and expired ones included.
#[utoipa::path(
    get,
    path = "/admin/v1/organizations/{org_id}/keys",
    operation_id = "list_keys_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid), PageParams),
    responses(
        (status = 200, description = "A page of keys.", body = KeyPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        AdminRefusals, ListRefusals, NoOrganization,
    ),
)]
pub(crate) async fn list(
    _: AdminReader,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    this_page: ThisPage,
    Params(params): Params<PageParams>,
) -> Result<(HeaderMap, Json<KeyPage>), ApiError> {
    let page = params.page()?;
    if app.store.get_organization(org_id).await?.is_none() {
        return Err(ApiError::NotFound);
    }
    list_for(&app, &Realm::of_organization(org_id), &page, &this_page).await
}

/// Revokes an organisation's key: within a second it is refused everywhere. Revoking it again changes nothing.
#[utoipa::path(
    delete,
    path = "/admin/v1/organizations/{org_id}/keys/{id}",
    operation_id = "revoke_key_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid), ("id" = String, Path, description = "The public part of the key.")),
    responses(
        (status = 204, description = "It is revoked."),
        AdminChangeRefusals,
        (status = 404, description = "The organisation has no such key, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke(
    Admin { actor }: Admin,
    State(app): State<Arc<App>>,
    PathIds(org_id, id): PathIds<OrgId, KeyId>,
) -> Result<StatusCode, ApiError> {
    revoke_for(&app, &Realm::of_organization(org_id), actor, id).await
}
