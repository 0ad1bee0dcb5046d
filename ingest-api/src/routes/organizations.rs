//! `/admin/v1/organizations`.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use shared::domain::id::OrgId;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::accounts::organization::{NewOrganization, Organization, OrganizationChange};
use crate::domain::accounts::quota::check_events_per_month;
use crate::domain::cursor::Cursor;
use crate::domain::form::field_errors::{FieldErrors, check_display_name, check_range};
use crate::http::admission::callers::{Admin, AdminReader};
use crate::http::error::ApiError;
use crate::http::request::body::RequestBody;
use crate::http::request::extract::{Params, PathId};
use crate::keys::cache::KeyChange;
use crate::routes::openapi::refusals::{
    AdminChangeRefusals, AdminRefusals, FormRefusals, LeavingOrganization, ListRefusals, NoOrganization,
};
use crate::routes::page::{PageParams, ThisPage};

/// How many days an organisation may keep its payloads: up to ten years.
const RETENTION_DAYS: RangeInclusive<u32> = 1..=3_650;

/// A page of organisations, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OrganizationPage {
    /// The organisations.
    data: Vec<Organization>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Makes an organisation.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations",
    operation_id = "create_organization",
    tag = "admin",
    security(("admin_token" = [])),
    request_body = NewOrganization,
    responses(
        (status = 201, description = "The organisation.", body = Organization),
        AdminChangeRefusals, FormRefusals,
    ),
)]
pub(crate) async fn create(
    Admin { actor }: Admin,
    State(app): State<Arc<App>>,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<Organization>), ApiError> {
    let new: NewOrganization = body.form().await?;
    let mut errors = FieldErrors::default();
    errors.check("name", check_display_name(&new.name));
    let retention = new.payload_retention_days;
    errors.check("payload_retention_days", check_retention(retention));
    let quota = check_events_per_month(new.events_per_month);
    errors.check("events_per_month", quota);
    errors.finish()?;
    let organization = app.store.by(actor).create_organization(&new).await?;
    Ok((StatusCode::CREATED, Json(organization)))
}

/// Lists the organisations, newest first.
#[utoipa::path(
    get,
    path = "/admin/v1/organizations",
    operation_id = "list_organizations",
    tag = "admin",
    security(("admin_token" = [])),
    params(PageParams),
    responses(
        (status = 200, description = "A page of organisations.", body = OrganizationPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        AdminRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list(
    _: AdminReader,
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<PageParams>,
) -> Result<(HeaderMap, Json<OrganizationPage>), ApiError> {
    let page = params.page()?;
    let mut data = app.store.list_organizations(&page).await?;
    let next_cursor = page.cut(&mut data, |last| Cursor {
        at: last.created_at,
        id: last.id.as_uuid(),
    });
    let links = this_page.links(next_cursor.as_deref());
    Ok((links, Json(OrganizationPage { data, next_cursor })))
}

/// Shows an organisation.
#[utoipa::path(
    get,
    path = "/admin/v1/organizations/{org_id}",
    operation_id = "show_organization",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The organisation.", body = Organization),
        AdminRefusals, NoOrganization,
    ),
)]
pub(crate) async fn show(
    _: AdminReader,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
) -> Result<Json<Organization>, ApiError> {
    let organization = app.store.get_organization(org_id).await?;
    organization.map(Json).ok_or(ApiError::NotFound)
}

/// Changes an organisation. Another tier or limit holds on every replica within a second, another quota within about ten.
#[utoipa::path(
    patch,
    path = "/admin/v1/organizations/{org_id}",
    operation_id = "change_organization",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    request_body(content(
        (OrganizationChange = "application/json"),
        (OrganizationChange = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "The organisation as it is now.", body = Organization),
        AdminChangeRefusals, FormRefusals, NoOrganization, LeavingOrganization,
    ),
)]
pub(crate) async fn change(
    Admin { actor }: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    mut body: RequestBody,
) -> Result<Json<Organization>, ApiError> {
    let change: OrganizationChange = body.change().await?;
    let mut errors = FieldErrors::default();
    let name = change.name.as_deref();
    errors.check("name", name.map_or(Ok(()), check_display_name));
    let retention = change.payload_retention_days.value().copied();
    errors.check("payload_retention_days", check_retention(retention));
    let quota = check_events_per_month(change.events_per_month.value().copied());
    errors.check("events_per_month", quota);
    errors.finish()?;
    let concerns_keys = change.tier.is_some() || change.rate_limit_per_minute.is_present();
    let store = app.store.by(actor);
    let write = async move { store.change_organization(org_id, &change).await };
    let organization = if concerns_keys {
        let change = KeyChange::Organization(org_id);
        app.key_changes.make(change, write).await?
    } else {
        write.await?
    };
    match organization {
        Some(organization) => Ok(Json(organization)),
        None => Err(refusal(&app, org_id).await?),
    }
}

/// Deletes an organisation with everything that it has.
///
/// Its keys are refused within a second. The rest takes a while: until it is done, the organisation is shown with
/// `deleting_since`, and cannot be changed.
#[utoipa::path(
    delete,
    path = "/admin/v1/organizations/{org_id}",
    operation_id = "delete_organization",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    responses(
        (status = 202, description = "It is being deleted.", body = Organization),
        AdminChangeRefusals, NoOrganization,
    ),
)]
pub(crate) async fn delete(
    Admin { actor }: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
) -> Result<(StatusCode, Json<Organization>), ApiError> {
    let found = app.store.get_organization(org_id).await?;
    let found = found.ok_or(ApiError::NotFound)?;
    let keys = app.store.by(actor).delete_organization(org_id).await?;
    let keys = keys.ok_or(ApiError::NotFound)?;
    app.key_changes.announce_keys(keys).await;
    // It may be gone already.
    let deleted = app.store.get_organization(org_id).await?;
    Ok((StatusCode::ACCEPTED, Json(deleted.unwrap_or(found))))
}

/// Why nothing of an organisation was changed.
pub(crate) async fn refusal(app: &App, org_id: OrgId) -> Result<ApiError, ApiError> {
    let found = app.store.get_organization(org_id).await?;
    let is_leaving = found.is_some_and(|organization| organization.deleting_since.is_some());
    Ok(if is_leaving {
        ApiError::Conflict("the organisation is being deleted")
    } else {
        ApiError::NotFound
    })
}

fn check_retention(days: Option<u32>) -> Result<(), String> {
    days.map_or(Ok(()), |days| check_range(&days, &RETENTION_DAYS))
}
