//! Making, showing, changing and deleting one endpoint.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use shared::domain::endpoint::EndpointStatus;
use shared::domain::id::{EndpointId, OrgId};
use shared::hidden::SecretText;
use utoipa::ToSchema;

use super::form::EndpointForm;
use super::stored::Opened;
use super::{Endpoint, find, show_stored};
use crate::app::App;
use crate::domain::access::actor::Actor;
use crate::domain::access::realm::Realm;
use crate::domain::access::session::Capability;
use crate::domain::form::field::Field;
use crate::http::admission::callers::{Admin, Manager};
use crate::http::admission::portal::PortalCaller;
use crate::http::answers::etag::{Shown, check_match, etag, is_conditional};
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::http::request::guarded_body::unless_changed;
use crate::routes::endpoints::form::new_endpoint::NewEndpoint;
use crate::routes::openapi::refusals::{AdminChangeRefusals, FormRefusals, KeyRefusals, NoEndpoint};
use crate::routes::organizations::refusal;
use crate::routes::tenants::DELETING;
use crate::store::{EndpointRow, Stored};

/// Most tries of a change while other requests change the same endpoint.
const MAX_TRIES: usize = 5;

/// An endpoint with its signing secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedEndpoint {
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// None for the kind `pull`: only webhooks are signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<String>)]
    pub secret: Option<SecretText>,
}

/// Makes an endpoint.
#[utoipa::path(
    post,
    path = "/v1/endpoints",
    operation_id = "create_endpoint",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    request_body = NewEndpoint,
    responses(
        (status = 201, description = "The endpoint, with its signing secret.", body = CreatedEndpoint, headers(("etag" = String, description = "Its version."))),
        KeyRefusals, FormRefusals,
        (status = 404, description = "The organisation has no such tenant.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The organisation or the tenant is being deleted, or one of them has 1 000 endpoints that are not deleted, or the organisation and its tenants together 100 000, the most there may be.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Manager { realm, admitted }: Manager,
    caller: PortalCaller,
    body: RequestBody,
) -> Result<(StatusCode, Shown<CreatedEndpoint>), ApiError> {
    let created = create_for(&app, &realm, admitted.actor(), &caller, body);
    unless_changed(&admitted, Box::pin(created)).await
}

/// Makes an endpoint of an organisation.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations/{org_id}/endpoints",
    operation_id = "create_endpoint_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    request_body = NewEndpoint,
    responses(
        (status = 201, description = "The endpoint, with its signing secret.", body = CreatedEndpoint, headers(("etag" = String, description = "Its version."))),
        AdminChangeRefusals, FormRefusals,
        (status = 404, description = "No such organisation, or it has no such tenant, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The organisation or the tenant is being deleted, or one of them has 1 000 endpoints that are not deleted, or the organisation and its tenants together 100 000, the most there may be.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create_as_admin(
    Admin { actor }: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    body: RequestBody,
) -> Result<(StatusCode, Shown<CreatedEndpoint>), ApiError> {
    create_for(
        &app,
        &Realm::of_organization(org_id),
        actor,
        &PortalCaller(None),
        body,
    )
    .await
}

async fn create_for(
    app: &App,
    realm: &Realm,
    actor: Actor,
    caller: &PortalCaller,
    mut body: RequestBody,
) -> Result<(StatusCode, Shown<CreatedEndpoint>), ApiError> {
    let form: EndpointForm = body.form().await?;
    let kind = form.kind.unwrap_or_default();
    let owner = form.owner(realm)?;
    let id = EndpointId::generate();
    let row = EndpointRow::new(id, kind, owner.tenant, owner.all_tenants);
    let (new, secret) = form.create(Opened::new(app, row)?, &app.egress)?;
    caller.check_event_types(&new.row.event_types)?;
    let sealed = secret.seal(&app.secrets_key, id);
    let made = match app
        .store
        .by(actor)
        .create_endpoint(realm.org_id, new.seal(app), &sealed, owner.create_tenant)
        .await?
    {
        Stored::Done(made) => made,
        Stored::Missing => return Err(refusal(app, realm.org_id).await?),
        Stored::OwnerLeaves => return Err(DELETING),
        Stored::Full(most) => return Err(ApiError::LimitReached(most)),
    };
    let version = etag(made.version);
    let created = CreatedEndpoint {
        endpoint: Endpoint::new(app, made)?,
        secret: kind.is_sent().then(|| secret.to_text().into()),
    };
    Ok((StatusCode::CREATED, (version, Json(created))))
}

/// Shows an endpoint.
#[utoipa::path(
    get,
    path = "/v1/endpoints/{id}",
    operation_id = "show_endpoint",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid)),
    responses(
        (status = 200, description = "The endpoint.", body = Endpoint, headers(("etag" = String, description = "Its version, for `If-Match`."))),
        KeyRefusals, NoEndpoint,
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
    caller: PortalCaller,
) -> Result<Shown<Endpoint>, ApiError> {
    let (etag, Json(endpoint)) = show_stored(&app, &realm, id).await?;
    let is_whole = caller.may(Capability::ManageEndpoints);
    let endpoint = if is_whole { endpoint } else { endpoint.in_list() };
    Ok((etag, Json(endpoint)))
}

/// Changes an endpoint (JSON merge patch). A field that the body leaves out stays, and null sets the default.
///
/// The change holds for every event that is accepted after the answer.
#[utoipa::path(
    patch,
    path = "/v1/endpoints/{id}",
    operation_id = "change_endpoint",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("If-Match" = Option<String>, Header, description = "An `ETag`. The endpoint is changed only while it has this one."),
    ),
    request_body(content(
        (EndpointForm = "application/json"),
        (EndpointForm = "application/merge-patch+json"),
    )),
    responses(
        (status = 200, description = "The endpoint as it is now.", body = Endpoint, headers(("etag" = String, description = "Its version."))),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "Other requests change it at the same time.", body = Problem, content_type = "application/problem+json"),
        (status = 412, description = "The endpoint has another `ETag` than `If-Match` names.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, admitted }: Manager,
    caller: PortalCaller,
    mut body: RequestBody,
) -> Result<Shown<Endpoint>, ApiError> {
    find(&app, &realm, id).await?;
    let form: EndpointForm = body.change().await?;
    for _ in 0..MAX_TRIES {
        let row = find(&app, &realm, id).await?;
        check_match(&body.headers, row.version)?;
        let changing = change_row(&app, admitted.actor(), &caller, realm.org_id, row, form.clone());
        if unless_changed(&admitted, Box::pin(changing)).await? {
            return show_stored(&app, &realm, id).await;
        }
    }
    Err(ApiError::Conflict("the endpoint is being changed by others"))
}

/// False when the stored row has changed since it was read.
async fn change_row(
    app: &App,
    actor: Actor,
    caller: &PortalCaller,
    org_id: OrgId,
    row: EndpointRow,
    form: EndpointForm,
) -> Result<bool, ApiError> {
    let enables = matches!(form.status, Field::Null | Field::Value(EndpointStatus::Enabled));
    let before = Opened::new(app, row)?;
    let changed = form.change(before.clone(), &app.egress)?;
    if changed.row.event_types != before.row.event_types {
        caller.check_event_types(&changed.row.event_types)?;
    }
    let changed = changed.seal_changed(app, &before);
    let stored = app
        .store
        .by(actor)
        .update_endpoint(org_id, &before.row, &changed, enables)
        .await?;
    Ok(stored)
}

/// Deletes an endpoint. It gets no further deliveries, and its pending deliveries become dead.
#[utoipa::path(
    delete,
    path = "/v1/endpoints/{id}",
    operation_id = "delete_endpoint",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(
        ("id" = String, Path, format = Uuid),
        ("If-Match" = Option<String>, Header, description = "An `ETag`. The endpoint is deleted only while it has this one."),
    ),
    responses(
        (status = 204, description = "It is deleted."),
        KeyRefusals, NoEndpoint,
        (status = 412, description = "It was changed since its `ETag` was `If-Match`.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EndpointId>,
    Manager { realm, admitted }: Manager,
    headers: HeaderMap,
) -> Result<StatusCode, ApiError> {
    let row = find(&app, &realm, id).await?;
    check_match(&headers, row.version)?;
    let version = is_conditional(&headers).then_some(row.version);
    let store = app.store.by(admitted.actor());
    match (store.delete_endpoint(realm.org_id, id, version).await?, version) {
        (true, _) => Ok(StatusCode::NO_CONTENT),
        (false, Some(_)) => Err(ApiError::PreconditionFailed),
        (false, None) => Err(ApiError::NotFound),
    }
}
