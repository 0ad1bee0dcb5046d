//! `/v1/keys`: an organisation's own keys.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use shared::domain::clock::UnixMicros;
use time::OffsetDateTime;
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use super::{
    CreatedKey, KeyPage, KeyRequest, REPLACED, RotationRequest, create_for, list_for, revoke_for, stored,
};
use crate::app::App;
use crate::domain::access::key::{Key, KeyId};
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::{Params, PathId};
use crate::keys::api_key::KeyPrefix;
use crate::routes::openapi::narrowed;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, ListRefusals, NoNewKey};
use crate::routes::page::{TenantParams, ThisPage};
use crate::store::Rotation;

/// A new key that another key makes: its scopes are required.
#[derive(Debug)]
pub(crate) enum OwnKeyRequest {}

impl PartialSchema for OwnKeyRequest {
    fn schema() -> RefOr<Schema> {
        let scopes = ObjectBuilder::new().schema_type(Type::Array);
        let with_scopes = ObjectBuilder::new().property("scopes", scopes).required("scopes");
        narrowed::schema::<KeyRequest>(with_scopes)
    }
}

impl ToSchema for OwnKeyRequest {
    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        narrowed::add::<KeyRequest>(schemas);
    }
}

/// Makes a key.
#[utoipa::path(
    post,
    path = "/v1/keys",
    operation_id = "create_key",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    request_body = OwnKeyRequest,
    responses(
        (status = 201, description = "The key, shown this once.", body = CreatedKey),
        KeyRefusals, FormRefusals, NoNewKey,
        (status = 403, description = "The calling key lacks the scope `manage`, or one that the new key should have.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such tenant.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The organisation, or the tenant, has 1 000 valid keys, the most it may have.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    Manager { realm, admitted }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let request: KeyRequest = body.form().await?;
    let scopes = request
        .scopes
        .ok_or_else(|| ApiError::invalid("scopes", "is missing"))?;
    request.check()?;
    admitted.may_give(scopes)?;
    create_for(&app, &realm, &admitted.actor(), request, scopes).await
}

/// Lists the organisation's keys, newest first, revoked and expired ones included.
#[utoipa::path(
    get,
    path = "/v1/keys",
    operation_id = "list_keys",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(TenantParams),
    responses(
        (status = 200, description = "A page of keys.", body = KeyPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<TenantParams>,
    Manager { realm, .. }: Manager,
) -> Result<(HeaderMap, Json<KeyPage>), ApiError> {
    let page = params.page()?;
    list_for(&app, &realm.narrowed(params.tenant)?, &page, &this_page).await
}

/// Revokes a key: within a second it is refused everywhere. Revoking it again changes nothing.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    operation_id = "revoke_key",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The public part of the key.")),
    responses(
        (status = 204, description = "It is revoked."),
        KeyRefusals,
        (status = 404, description = "The organisation has no such key.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    PathId(id): PathId<KeyId>,
    Manager { realm, admitted }: Manager,
) -> Result<StatusCode, ApiError> {
    revoke_for(&app, &realm, admitted.actor(), id).await
}

/// Replaces a key by a new one with the same name and scopes. The old one stays valid for the overlap.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    operation_id = "rotate_key",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The public part of the old key.")),
    request_body = RotationRequest,
    responses(
        (status = 201, description = "The new key, shown this once.", body = CreatedKey),
        KeyRefusals, FormRefusals, NoNewKey,
        (status = 403, description = "The calling key lacks the scope `manage`, or one that the old key has.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such key.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The old key is revoked, expired or replaced already; or it would stay valid beside the new one, and the organisation, or the tenant, has 1 000 valid keys, the most it may have.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn rotate(
    State(app): State<Arc<App>>,
    PathId(id): PathId<KeyId>,
    Manager { realm, admitted }: Manager,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let request: RotationRequest = body.form().await?;
    request.check()?;
    let old = app.store.get_key(&realm, &id).await?.ok_or(ApiError::NotFound)?;
    admitted.may_give(old.scopes)?;
    let new = app.authenticator.make_key(KeyPrefix::Penstock).await?;
    let now = UnixMicros::now().to_date_time();
    let rotation = Rotation {
        caller: admitted.key_id(),
        old: &id,
        overlap: Duration::from_secs(request.overlap_seconds.into()),
        new: &new,
        new_expires_at: request
            .expires_at
            .map(|at| at.0)
            .or_else(|| same_lifetime(&old, now)),
    };
    let store = app.store.by(admitted.actor());
    // Both keys count among those of the old one's tenant, also when the organisation replaces it.
    let owner = realm.narrowed(old.tenant)?;
    let info = stored(store.rotate_key(&owner, &rotation).await?, REPLACED)?;
    app.key_changes.announce_keys([id]).await;
    let key = new.text;
    Ok((StatusCode::CREATED, Json(CreatedKey { info, key })))
}

/// The end of a key that is made now and valid for as long as `old` was from its first day. Otherwise a key that
/// expires after 90 days, and is rotated for that, would be replaced by one that never expires.
fn same_lifetime(old: &Key, now: OffsetDateTime) -> Option<OffsetDateTime> {
    old.expires_at
        .and_then(|expires_at| now.checked_add(expires_at - old.created_at))
}
