//! `/v1/tenants/{uid}/portal-sessions`: sessions of a tenant's portal.

use std::ops::RangeInclusive;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::header::HOST;
use axum::http::uri::Authority;
use axum::http::{HeaderMap, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use shared::domain::clock::UnixMicros;
use shared::domain::event_type::EventTypePattern;
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use url::Url;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::session::{Capability, PortalSession, SessionId};
use crate::domain::accounts::tenant::TenantStatus;
use crate::domain::form::field_errors::{FieldErrors, WrongFields, check_range};
use crate::domain::form::whole;
use crate::http::admission::callers::OrganizationManager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::{PathId, PathIds};
use crate::keys::portal::PortalToken;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoTenant};
use crate::routes::tenants::DELETING;

/// A session lasts a minute to a week.
const TTL_SECONDS: RangeInclusive<u32> = 60..=604_800;

/// Most patterns of event types.
const MAX_EVENT_TYPES: usize = 20;

/// Longest URL, in bytes.
const MAX_URL_BYTES: usize = 2_048;

/// A new session of a tenant's portal.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct NewPortalSession {
    /// How long it lasts.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 60, maximum = 604_800, default = 3_600)]
    ttl_seconds: u32,
    /// What it may do; `view` unless given.
    #[schema(min_items = 1, max_items = 4)]
    capabilities: Vec<Capability>,
    /// The event types that its endpoints may choose from, exact or as a prefix that ends in `*`, up to 20. Every type unless
    /// given.
    #[schema(max_items = 20)]
    event_types: Vec<EventTypePattern>,
    /// Where the page's link back leads: http or https.
    #[schema(max_length = 2_048, pattern = r"^[Hh][Tt][Tt][Pp][Ss]?://")]
    return_url: Option<String>,
}

impl Default for NewPortalSession {
    fn default() -> Self {
        Self {
            ttl_seconds: 3_600,
            capabilities: vec![Capability::View],
            event_types: Vec::new(),
            return_url: None,
        }
    }
}

impl NewPortalSession {
    fn check(&self) -> Result<(), WrongFields> {
        let mut errors = FieldErrors::default();
        errors.check("ttl_seconds", check_range(&self.ttl_seconds, &TTL_SECONDS));
        if !(1..=4).contains(&self.capabilities.len()) {
            errors.push("capabilities", "must have 1 to 4 items");
        }
        if self.event_types.len() > MAX_EVENT_TYPES {
            errors.push(
                "event_types",
                format!("must have at most {MAX_EVENT_TYPES} items"),
            );
        }
        let url = self.return_url.as_deref();
        errors.check("return_url", url.map_or(Ok(()), check_return_url));
        errors.finish()
    }
}

/// The URL becomes a link in the page, so it must not be a script.
fn check_return_url(text: &str) -> Result<(), String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!("must have at most {MAX_URL_BYTES} bytes"));
    }
    let is_web = Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    is_web
        .then_some(())
        .ok_or_else(|| "must be a URL with http or https".to_owned())
}

/// A session of a tenant's portal, with its token, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct CreatedPortalSession {
    /// Its id, by which it can be ended.
    #[schema(value_type = String, format = Uuid)]
    id: String,
    /// Where the page is; the token stands in its fragment, which browsers send to no server.
    #[schema(format = "uri")]
    url: String,
    /// The token, which the page sends as `Authorization: Bearer …`.
    #[schema(value_type = String)]
    token: PortalToken,
    /// When it ends.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    expires_at: OffsetDateTime,
}

/// Makes a session of a tenant's portal. It lasts no longer than the key that makes it.
#[utoipa::path(
    post,
    path = "/v1/tenants/{uid}/portal-sessions",
    operation_id = "create_portal_session",
    tag = "portal",
    security(("api_key" = []), ("bearer" = [])),
    params(("uid" = Tenant, Path)),
    request_body = Option<NewPortalSession>,
    responses(
        (status = 201, description = "The session.", body = CreatedPortalSession),
        KeyRefusals, FormRefusals, NoTenant,
        (status = 409, description = "The tenant is being deleted.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    PathId(tenant): PathId<Tenant>,
    OrganizationManager { org_id, admitted }: OrganizationManager,
    uri: Uri,
    mut body: RequestBody,
) -> Result<(StatusCode, Json<CreatedPortalSession>), ApiError> {
    let (status, made_at) = app
        .store
        .begin_portal_session(org_id, &tenant)
        .await?
        .ok_or(ApiError::NotFound)?;
    if status == TenantStatus::Deleting {
        return Err(DELETING);
    }
    let new: NewPortalSession = body.optional_form().await?;
    new.check()?;
    let grant = admitted.grant();
    let expires_at = UnixMicros::now().get() + i64::from(new.ttl_seconds) * 1_000_000;
    let expires_at = grant.expires_at.map_or(expires_at, |at| at.get().min(expires_at));
    let session = PortalSession {
        id: SessionId::generate(),
        org_id,
        tenant,
        capabilities: new.capabilities,
        event_types: new.event_types,
        return_url: new.return_url,
        limit: grant.limit,
        made_at: made_at.into(),
        expires_at: UnixMicros::new(expires_at),
    };
    let token = app.portal_tokens.seal(&session);
    let created = CreatedPortalSession {
        id: session.id.to_string(),
        url: format!(
            "{}portal/{}#token={}",
            base(&app, &uri, &body.headers)?,
            app.portal_tokens.address(org_id),
            token.as_str()
        ),
        token,
        expires_at: session.expires_at.to_date_time(),
    };
    // The key may have been revoked while the body came: its sessions would outlive it.
    admitted.check_unchanged().await?;
    Ok((StatusCode::CREATED, Json(created)))
}

/// Ends all sessions of a tenant's portal, on every replica within a second.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{uid}/portal-sessions",
    operation_id = "end_portal_sessions",
    tag = "portal",
    security(("api_key" = []), ("bearer" = [])),
    params(("uid" = Tenant, Path)),
    responses(
        (status = 204, description = "They have ended."),
        KeyRefusals, NoTenant,
    ),
)]
pub(crate) async fn end_all(
    State(app): State<Arc<App>>,
    PathId(tenant): PathId<Tenant>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<StatusCode, ApiError> {
    let found = app.store.end_portal_sessions(org_id, &tenant, None).await?;
    found.then_some(StatusCode::NO_CONTENT).ok_or(ApiError::NotFound)
}

/// Ends a session of a tenant's portal, on every replica within a second.
///
/// Of a tenant whose sessions were ended one by one 1 000 times within a week, the next one ends all.
#[utoipa::path(
    delete,
    path = "/v1/tenants/{uid}/portal-sessions/{id}",
    operation_id = "end_portal_session",
    tag = "portal",
    security(("api_key" = []), ("bearer" = [])),
    params(("uid" = Tenant, Path), ("id" = String, Path, format = Uuid)),
    responses(
        (status = 204, description = "It has ended, if there was one of this id."),
        KeyRefusals, NoTenant,
    ),
)]
pub(crate) async fn end(
    State(app): State<Arc<App>>,
    PathIds(tenant, id): PathIds<Tenant, SessionId>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<StatusCode, ApiError> {
    let found = app.store.end_portal_sessions(org_id, &tenant, Some(id)).await?;
    found.then_some(StatusCode::NO_CONTENT).ok_or(ApiError::NotFound)
}

/// Where browsers reach the API: what the operator says, or where this request went.
fn base(app: &App, uri: &Uri, headers: &HeaderMap) -> Result<String, ApiError> {
    if let Some(url) = &app.public_url {
        return Ok(url.to_string());
    }
    // HTTP/2 has it in the place of `Host`.
    if let Some(authority) = uri.authority() {
        return Ok(format!("http://{authority}/"));
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let host: Option<Authority> = host.and_then(|host| host.parse().ok());
    let host = host.ok_or_else(|| ApiError::Malformed("the request has no `Host`".to_owned()))?;
    Ok(format!("http://{host}/"))
}
