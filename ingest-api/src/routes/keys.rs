//! `/v1/keys`, and the same for the operator under `/admin/v1/organizations/{org_id}/keys`.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use shared::clock::UnixMicros;
use shared::id::OrgId;
use time::{Duration, OffsetDateTime};
use utoipa::ToSchema;

use crate::admission::{Admin, Admitted};
use crate::api_key::{KeyId, KeyText};
use crate::cursor::Cursor;
use crate::error::{ApiError, Problem};
use crate::extract::{Params, PathId, PathIds};
use crate::key_cache::KeyChange;
use crate::router::App;
use crate::routes::body::read_form;
use crate::routes::page::{Page, PageParams};
use crate::scope::{Scope, Scopes};
use crate::store::{KeyToStore, Rotation};

const MAX_NAME_CHARS: usize = 200;

/// The longest overlap of a rotation: 30 days.
const MAX_OVERLAP_SECONDS: u32 = 2_592_000;

/// A new API key.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    /// What its owner calls it, 1 to 200 characters.
    name: String,
    /// What it may do: nothing that the key which makes it may not do. The operator may leave it out for all
    /// scopes.
    #[schema(value_type = Option<Vec<Scope>>)]
    scopes: Option<Scopes>,
    /// When it stops being valid; never unless given.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// How a key is replaced by a new one.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RotationRequest {
    /// How long the old key stays valid beside the new one, in seconds, at most 30 days.
    #[serde(default)]
    #[schema(maximum = 2_592_000)]
    overlap_seconds: u32,
    /// When the new key stops being valid. Unless given, it is valid as long as the old one was to be in all.
    #[serde(default, with = "time::serde::rfc3339::option")]
    expires_at: Option<OffsetDateTime>,
}

/// An API key, as its owner sees it. The key itself is nowhere but with its owner.
#[derive(Debug, Serialize, ToSchema)]
pub struct Key {
    /// Its public part.
    #[schema(value_type = String)]
    pub id: KeyId,
    /// What its owner calls it.
    pub name: String,
    /// What it may do.
    #[schema(value_type = Vec<Scope>)]
    pub scopes: Scopes,
    /// When it was made.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it stops being valid.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires_at: Option<OffsetDateTime>,
    /// When it was last used, to the minute or so.
    #[serde(with = "time::serde::rfc3339::option")]
    pub last_used_at: Option<OffsetDateTime>,
    /// When it was revoked.
    #[serde(with = "time::serde::rfc3339::option")]
    pub revoked_at: Option<OffsetDateTime>,
    /// The key that a rotation made to take its place.
    #[schema(value_type = Option<String>)]
    pub replaced_by: Option<KeyId>,
}

/// A new key with the key itself, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedKey {
    #[serde(flatten)]
    info: Key,
    /// What requests are authenticated with.
    #[schema(value_type = String)]
    key: KeyText,
}

/// A page of keys, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub struct KeyPage {
    /// The keys, revoked and expired ones included.
    data: Vec<Key>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Makes a key.
///
/// # Errors
/// 400, 401, 403, 408, 413, 415, 422, 429, 503.
#[utoipa::path(
    post,
    path = "/v1/keys",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, shown this once.", body = CreatedKey),
        (status = 400, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The calling key lacks the scope `manage`, or one that the new key should have.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 64 KiB.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON, or compressed.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    let request: KeyRequest = read_form(&headers, body, app.body_timeout).await?;
    let scopes = request
        .scopes
        .ok_or_else(|| ApiError::invalid("scopes", "is missing"))?;
    request.check()?;
    admitted.may_give(scopes)?;
    create_for(&app, org_id, request, scopes).await
}

/// Makes a key for an organisation, with all scopes unless some are named.
///
/// # Errors
/// 400, 401, 404, 408, 413, 415, 422, 503.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations/{org_id}/keys",
    operation_id = "create_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, shown this once.", body = CreatedKey),
        (status = 400, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not the admin token.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such organisation, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 64 KiB.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON, or compressed.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create_as_admin(
    _: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let request: KeyRequest = read_form(&headers, body, app.body_timeout).await?;
    request.check()?;
    let scopes = request.scopes.unwrap_or_else(Scopes::all);
    create_for(&app, org_id, request, scopes).await
}

async fn create_for(
    app: &App,
    org_id: OrgId,
    request: KeyRequest,
    scopes: Scopes,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let new = app.authenticator.make_key().await?;
    let key = KeyToStore {
        new: &new,
        org_id,
        name: &request.name,
        scopes,
        expires_at: request.expires_at,
    };
    let info = app.store.create_key(key).await?.ok_or(ApiError::NotFound)?;
    let key = new.text;
    Ok((StatusCode::CREATED, Json(CreatedKey { info, key })))
}

/// Lists the organisation's keys, newest first, revoked and expired ones included.
///
/// # Errors
/// 401, 403, 422, 429, 503.
#[utoipa::path(
    get,
    path = "/v1/keys",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(PageParams),
    responses(
        (status = 200, description = "A page of keys.", body = KeyPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    Params(params): Params<PageParams>,
) -> Result<(HeaderMap, Json<KeyPage>), ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    list_for(&app, org_id, &params.page()?, "/v1/keys").await
}

/// Lists an organisation's keys, newest first, revoked and expired ones included.
///
/// # Errors
/// 401, 404, 422, 503.
#[utoipa::path(
    get,
    path = "/admin/v1/organizations/{org_id}/keys",
    operation_id = "list_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid), PageParams),
    responses(
        (status = 200, description = "A page of keys.", body = KeyPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        (status = 401, description = "Not the admin token.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such organisation, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list_as_admin(
    _: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    Params(params): Params<PageParams>,
) -> Result<(HeaderMap, Json<KeyPage>), ApiError> {
    let page = params.page()?;
    if app.store.get_organization(org_id).await?.is_none() {
        return Err(ApiError::NotFound);
    }
    let path = format!("/admin/v1/organizations/{org_id}/keys");
    list_for(&app, org_id, &page, &path).await
}

async fn list_for(
    app: &App,
    org_id: OrgId,
    page: &Page<KeyId>,
    path: &str,
) -> Result<(HeaderMap, Json<KeyPage>), ApiError> {
    let mut data = app.store.list_keys(org_id, page).await?;
    let next_cursor = page.cut(&mut data, |last| Cursor {
        at: last.created_at,
        id: last.id.clone(),
    });
    let links = page.links(path, next_cursor.as_deref());
    Ok((links, Json(KeyPage { data, next_cursor })))
}

/// Revokes a key: within a second it is refused everywhere. Revoking it again changes nothing.
///
/// # Errors
/// 401, 403, 404 also for another organisation's key, 429, 503.
#[utoipa::path(
    delete,
    path = "/v1/keys/{id}",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The public part of the key.")),
    responses(
        (status = 204, description = "It is revoked."),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such key.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    PathId(id): PathId<KeyId>,
) -> Result<StatusCode, ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    revoke_for(&app, org_id, id).await
}

/// Revokes an organisation's key: within a second it is refused everywhere. Revoking it again changes nothing.
///
/// # Errors
/// 401, 404, 503.
#[utoipa::path(
    delete,
    path = "/admin/v1/organizations/{org_id}/keys/{id}",
    operation_id = "revoke_as_admin",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid), ("id" = String, Path, description = "The public part of the key.")),
    responses(
        (status = 204, description = "It is revoked."),
        (status = 401, description = "Not the admin token.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such key, or the admin API is switched off.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn revoke_as_admin(
    _: Admin,
    State(app): State<Arc<App>>,
    PathIds(org_id, id): PathIds<OrgId, KeyId>,
) -> Result<StatusCode, ApiError> {
    revoke_for(&app, org_id, id).await
}

async fn revoke_for(app: &App, org_id: OrgId, id: KeyId) -> Result<StatusCode, ApiError> {
    if !app.store.revoke_key(org_id, &id).await? {
        return Err(ApiError::NotFound);
    }
    app.key_changes.announce(KeyChange::Key(id)).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Replaces a key by a new one with the same name and scopes. The old one stays valid for the overlap.
///
/// # Errors
/// 400, 401, 403, 404 also for another organisation's key, 408, 409, 413, 415, 422, 429, 503.
#[utoipa::path(
    post,
    path = "/v1/keys/{id}/rotate",
    tag = "keys",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, description = "The public part of the old key.")),
    request_body = RotationRequest,
    responses(
        (status = 201, description = "The new key, shown this once.", body = CreatedKey),
        (status = 400, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The calling key lacks the scope `manage`, or one that the old key has.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The organisation has no such key.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time.", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "The old key is revoked, expired or replaced already.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 64 KiB.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON, or compressed.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn rotate(
    State(app): State<Arc<App>>,
    admitted: Admitted,
    PathId(id): PathId<KeyId>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    let request: RotationRequest = read_form(&headers, body, app.body_timeout).await?;
    request.check()?;
    let old = app.store.get_key(org_id, &id).await?.ok_or(ApiError::NotFound)?;
    admitted.may_give(old.scopes)?;
    let new = app.authenticator.make_key().await?;
    let now = UnixMicros::now().to_date_time();
    let rotation = Rotation {
        old: &id,
        old_expires_at: now + Duration::seconds(request.overlap_seconds.into()),
        new: &new,
        new_expires_at: request.expires_at.or_else(|| same_lifetime(&old, now)),
    };
    let info = app.store.rotate_key(org_id, &rotation).await?;
    let info = info.ok_or(ApiError::Conflict(
        "the key is revoked, expired or replaced already",
    ))?;
    app.key_changes.announce(KeyChange::Key(id)).await;
    let key = new.text;
    Ok((StatusCode::CREATED, Json(CreatedKey { info, key })))
}

/// When a key that is made now ends, if it is to be valid as long as `old` was from its first day. A key that is
/// rotated every 90 days because it expires after them would otherwise be replaced by one that never does.
fn same_lifetime(old: &Key, now: OffsetDateTime) -> Option<OffsetDateTime> {
    old.expires_at
        .and_then(|expires_at| now.checked_add(expires_at - old.created_at))
}

impl KeyRequest {
    fn check(&self) -> Result<(), ApiError> {
        let scopes = match self.scopes {
            Some(scopes) if scopes.is_empty() => Err("must name at least one scope"),
            _ => Ok(()),
        };
        let outcomes = [
            ("name", check_name(&self.name)),
            ("scopes", scopes.map_err(str::to_owned)),
            ("expires_at", check_future(self.expires_at)),
        ];
        ApiError::all_valid(outcomes)
    }
}

impl RotationRequest {
    fn check(&self) -> Result<(), ApiError> {
        let overlap = if self.overlap_seconds <= MAX_OVERLAP_SECONDS {
            Ok(())
        } else {
            Err(format!("must be 0 to {MAX_OVERLAP_SECONDS}"))
        };
        ApiError::all_valid([
            ("overlap_seconds", overlap),
            ("expires_at", check_future(self.expires_at)),
        ])
    }
}

/// Checks the name of a key or an organisation.
///
/// # Errors
/// With what is wrong.
pub fn check_name(name: &str) -> Result<(), String> {
    let length = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&length) && !name.contains('\0') {
        return Ok(());
    }
    Err(format!(
        "must have 1 to {MAX_NAME_CHARS} characters, none of them NUL"
    ))
}

fn check_future(at: Option<OffsetDateTime>) -> Result<(), String> {
    match at {
        Some(at) if at <= UnixMicros::now().to_date_time() => Err("must be in the future".to_owned()),
        _ => Ok(()),
    }
}
