//! `/v1/tenants`: an organisation's own customers.

pub(crate) mod list;

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use shared::domain::id::OrgId;
use shared::domain::name::Tenant;

use crate::app::App;
use crate::domain::accounts::tenant::{TenantForm, TenantSettings, TenantStatus, TenantView};
use crate::http::admission::callers::OrganizationManager;
use crate::http::answers::etag::{Shown, check_match, etag, is_conditional, is_for_new};
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoTenant};
use crate::store::{TenantExpected, TenantRow, TenantWritten};

/// Most tries of a change while other requests change the same tenant.
const MAX_TRIES: usize = 5;

/// The answer when a tenant is being deleted.
pub(crate) const DELETING: ApiError = ApiError::Conflict("the tenant is being deleted");

/// Makes a tenant, or sets all of its fields: those that the body leaves out get their defaults.
#[utoipa::path(
    put,
    path = "/v1/tenants/{uid}",
    operation_id = "put_tenant",
    tag = "tenants",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("uid" = Tenant, Path, description = "The organisation's id for it."),
        ("If-Match" = Option<String>, Header, description = "An `ETag`. The tenant is changed only while it has this one."),
        ("If-None-Match" = Option<String>, Header, description = "`*`: the tenant is made only if it is not there."),
    ),
    request_body = Option<TenantForm>,
    responses(
        (status = 200, description = "It was there; the tenant as it is now.", body = TenantView, headers(("etag" = String, description = "Its version."))),
        (status = 201, description = "It is new.", body = TenantView, headers(("etag" = String, description = "Its version."))),
        KeyRefusals, FormRefusals,
        (status = 404, description = "The key is bound to a tenant.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The tenant is being deleted, or the organisation has 100 000 tenants, the most it may have.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The tenant has another `ETag` than `If-Match` names, or is not there; or it is there, with `If-None-Match`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    Path(uid): Path<String>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
    mut body: RequestBody,
) -> Result<(StatusCode, Shown<TenantView>), ApiError> {
    let tenant: Tenant = uid
        .parse()
        .map_err(|detail: &str| ApiError::invalid("uid", detail))?;
    let form: TenantForm = body.optional_form().await?;
    let settings = form.apply(TenantSettings::default())?;
    let expected = match (is_conditional(&body.headers), is_for_new(&body.headers)?) {
        (false, false) => TenantExpected::Any,
        (false, true) => TenantExpected::New,
        (true, false) => {
            let row = matching(&app, org_id, &tenant, &body.headers).await?;
            TenantExpected::Version(row.version)
        }
        // No tenant is both there and not there.
        (true, true) => return Err(ApiError::PreconditionFailed),
    };
    let status = match app
        .store
        .by(admitted.actor())
        .write_tenant(org_id, &tenant, &settings, expected)
        .await?
    {
        TenantWritten::Made => StatusCode::CREATED,
        TenantWritten::Changed => StatusCode::OK,
        TenantWritten::Stale if expected == TenantExpected::New => return Err(ApiError::Exists),
        TenantWritten::Stale => return Err(ApiError::PreconditionFailed),
        refused => return Err(refusal(refused)),
    };
    Ok((status, show_stored(&app, org_id, &tenant).await?))
}

/// Shows a tenant.
#[utoipa::path(
    get,
    path = "/v1/tenants/{uid}",
    operation_id = "show_tenant",
    tag = "tenants",
    security(("api_key" = []), ("bearer" = [])),
    params(("uid" = Tenant, Path)),
    responses(
        (status = 200, description = "The tenant.", body = TenantView, headers(("etag" = String, description = "Its version, for `If-Match`."))),
        KeyRefusals, NoTenant,
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathId(tenant): PathId<Tenant>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<Shown<TenantView>, ApiError> {
    show_stored(&app, org_id, &tenant).await
}

/// Changes a tenant (JSON merge patch). A field that the body leaves out stays, and null sets the default.
#[utoipa::path(
    patch,
    path = "/v1/tenants/{uid}",
    operation_id = "change_tenant",
    tag = "tenants",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("uid" = Tenant, Path),
        ("If-Match" = Option<String>, Header, description = "An `ETag`. The tenant is changed only while it has this one."),
    ),
    request_body(content(
        (TenantForm = "application/json"),
        (TenantForm = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "The tenant as it is now.", body = TenantView, headers(("etag" = String, description = "Its version."))),
        KeyRefusals, FormRefusals, NoTenant,
        (status = 409, description = "The tenant is being deleted, or other requests change it at the same time.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The tenant has another `ETag` than `If-Match` names.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    PathId(tenant): PathId<Tenant>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
    mut body: RequestBody,
) -> Result<Shown<TenantView>, ApiError> {
    find(&app, org_id, &tenant).await?;
    let form: TenantForm = body.change().await?;
    for _ in 0..MAX_TRIES {
        let row = matching(&app, org_id, &tenant, &body.headers).await?;
        if row.settings.status == TenantStatus::Deleting {
            return Err(DELETING);
        }
        let settings = form.clone().apply(row.settings)?;
        let store = app.store.by(admitted.actor());
        let expected = TenantExpected::Version(row.version);
        let written = store.write_tenant(org_id, &tenant, &settings, expected);
        match written.await? {
            TenantWritten::Made | TenantWritten::Changed => return show_stored(&app, org_id, &tenant).await,
            TenantWritten::Stale => {}
            refused => return Err(refusal(refused)),
        }
    }
    Err(ApiError::Conflict("the tenant is being changed by others"))
}

/// Deletes a tenant, with its keys, its endpoints and the payloads of its events.
///
/// Its keys are refused within a second, and its endpoints get nothing more. The rest takes a while: until it is done the
/// tenant is shown with the status `deleting`, and cannot be made again.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{uid}",
    operation_id = "delete_tenant",
    tag = "tenants",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("uid" = Tenant, Path),
        ("If-Match" = Option<String>, Header, description = "An `ETag`. The tenant is deleted only if it has this one."),
    ),
    responses(
        (status = 202, description = "It is being deleted.", body = TenantView),
        KeyRefusals, NoTenant,
        (status = 412, description = "The tenant has another `ETag` than `If-Match` names.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathId(tenant): PathId<Tenant>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<TenantView>), ApiError> {
    let row = matching(&app, org_id, &tenant, &headers).await?;
    let version = is_conditional(&headers).then_some(row.version);
    let store = app.store.by(admitted.actor());
    let keys = store.delete_tenant(org_id, &tenant, version).await?;
    let keys = keys.ok_or_else(|| missing(&headers))?;
    app.key_changes.announce_keys(keys).await;
    // It may be gone already.
    let deleted = app.store.find_tenant(org_id, &tenant).await?;
    Ok((StatusCode::ACCEPTED, Json(view(deleted.unwrap_or(row)))))
}

async fn find(app: &App, org_id: OrgId, tenant: &Tenant) -> Result<TenantRow, ApiError> {
    app.store
        .find_tenant(org_id, tenant)
        .await?
        .ok_or(ApiError::NotFound)
}

/// The tenant, provided that it has the version that `If-Match` names, if it names one.
async fn matching(
    app: &App,
    org_id: OrgId,
    tenant: &Tenant,
    headers: &HeaderMap,
) -> Result<TenantRow, ApiError> {
    let row = app.store.find_tenant(org_id, tenant).await?;
    let row = row.ok_or_else(|| missing(headers))?;
    check_match(headers, row.version)?;
    Ok(row)
}

/// The answer when there is no such tenant, or none of the version that `If-Match` names.
fn missing(headers: &HeaderMap) -> ApiError {
    if is_conditional(headers) {
        ApiError::PreconditionFailed
    } else {
        ApiError::NotFound
    }
}

async fn show_stored(app: &App, org_id: OrgId, tenant: &Tenant) -> Result<Shown<TenantView>, ApiError> {
    let row = find(app, org_id, tenant).await?;
    Ok((etag(row.version), Json(view(row))))
}

fn view(row: TenantRow) -> TenantView {
    TenantView {
        uid: row.uid,
        name: row.settings.name,
        metadata: row.settings.metadata,
        rate_limit_per_minute: row.settings.rate_limit_per_minute.map(Into::into),
        events_per_month: row.settings.events_per_month,
        quota_action: row.settings.quota_action,
        status: row.settings.status,
        created_at: row.created_at,
        updated_at: row.updated_at,
        events_left: row.events_left,
    }
}

/// Why a tenant was not written.
fn refusal(written: TenantWritten) -> ApiError {
    match written {
        TenantWritten::Full(most) => ApiError::LimitReached(most),
        TenantWritten::Deleting => DELETING,
        _ => ApiError::NotFound,
    }
}
