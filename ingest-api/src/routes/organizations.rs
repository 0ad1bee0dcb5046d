//! `/admin/v1/organizations`: organisations and their first keys.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use shared::id::OrgId;
use utoipa::ToSchema;

use crate::admission::Admin;
use crate::api_key::{KeyId, NewKey};
use crate::auth::Scope;
use crate::error::{ApiError, FieldError, Problem};
use crate::router::App;
use crate::routes::body::read_form;
use crate::store::KeyToStore;

const MAX_NAME_CHARS: usize = 200;

/// What an organisation pays for: its rate limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// 100 requests a minute.
    #[default]
    Free,
    /// 1 000 requests a minute.
    Pro,
    /// 10 000 requests a minute.
    Business,
    /// 100 000 requests a minute.
    Enterprise,
}

impl Tier {
    /// The name in the API and in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Pro => "pro",
            Self::Business => "business",
            Self::Enterprise => "enterprise",
        }
    }

    /// Reads a name from the database, whose check constraint knows the same four.
    pub fn from_name(name: &str) -> Self {
        match name {
            "pro" => Self::Pro,
            "business" => Self::Business,
            "enterprise" => Self::Enterprise,
            _ => Self::Free,
        }
    }

    /// Requests a minute.
    pub fn rate_limit_per_minute(self) -> u64 {
        match self {
            Self::Free => 100,
            Self::Pro => 1_000,
            Self::Business => 10_000,
            Self::Enterprise => 100_000,
        }
    }
}

/// Body of `POST /admin/v1/organizations`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewOrganization {
    name: String,
    #[serde(default)]
    tier: Tier,
    /// Overrides the tier's limit.
    #[serde(default)]
    #[schema(value_type = Option<u32>, minimum = 1)]
    rate_limit_per_minute: Option<std::num::NonZeroU32>,
}

/// An organisation, as the admin API shows it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Organization {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: OrgId,
    /// Its name, 1 to 200 characters.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// Its own limit, when it has one.
    pub rate_limit_per_minute: Option<u32>,
}

/// `POST /admin/v1/organizations`.
///
/// # Errors
/// 401, 404 without an admin token in the configuration, 422.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations",
    tag = "admin",
    security(("admin_token" = [])),
    request_body = NewOrganization,
    responses(
        (status = 201, description = "The organisation.", body = Organization),
        (status = 400, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not the admin token.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "The admin API is switched off.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 64 KiB.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON, or compressed.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create(
    _: Admin,
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Organization>), ApiError> {
    let new: NewOrganization = read_form(&headers, body, app.body_timeout).await?;
    check_name(&new.name)?;
    let organization = Organization {
        id: OrgId::generate(),
        name: new.name,
        tier: new.tier,
        rate_limit_per_minute: new.rate_limit_per_minute.map(Into::into),
    };
    app.store.create_organization(&organization).await?;
    Ok((StatusCode::CREATED, Json(organization)))
}

/// Body of `POST /admin/v1/organizations/{org_id}/keys`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyRequest {
    name: String,
    #[serde(default = "all_scopes")]
    scopes: Vec<Scope>,
}

fn all_scopes() -> Vec<Scope> {
    vec![Scope::Ingest, Scope::Manage]
}

/// A new key; `key` is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedKey {
    #[schema(value_type = String)]
    id: KeyId,
    name: String,
    scopes: Vec<Scope>,
    key: String,
}

/// `POST /admin/v1/organizations/{org_id}/keys`.
///
/// # Errors
/// 401, 404 for an unknown organisation, 422.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations/{org_id}/keys",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    request_body = KeyRequest,
    responses(
        (status = 201, description = "The key, shown this once.", body = CreatedKey),
        (status = 400, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "Not the admin token.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "No such organisation.", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "The body did not arrive in time.", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "Larger than 64 KiB.", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "Not JSON, or compressed.", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "A field is wrong; `errors` names it.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn create_key(
    _: Admin,
    State(app): State<Arc<App>>,
    Path(org_id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedKey>), ApiError> {
    let org_id = org_id.parse().map_err(|_| ApiError::NotFound)?;
    let request: KeyRequest = read_form(&headers, body, app.body_timeout).await?;
    check_name(&request.name)?;
    if request.scopes.is_empty() {
        return Err(ApiError::Invalid(vec![FieldError::new(
            "scopes",
            "must name at least one scope",
        )]));
    }
    let new = tokio::task::spawn_blocking(NewKey::generate)
        .await
        .map_err(anyhow::Error::from);
    let new = new.flatten().map_err(ApiError::Internal)?;
    let scopes: Vec<_> = request
        .scopes
        .iter()
        .map(|scope| scope.as_str().to_owned())
        .collect();
    let key = KeyToStore {
        id: &new.id,
        org_id,
        name: &request.name,
        hash: &new.hash,
        scopes: &scopes,
    };
    if !app.store.create_key(key).await? {
        return Err(ApiError::NotFound);
    }
    let created = CreatedKey {
        id: new.id,
        name: request.name,
        scopes: request.scopes,
        key: new.text,
    };
    Ok((StatusCode::CREATED, Json(created)))
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let length = name.chars().count();
    if (1..=MAX_NAME_CHARS).contains(&length) && !name.contains('\0') {
        return Ok(());
    }
    let detail = format!("must have 1 to {MAX_NAME_CHARS} characters, none of them NUL");
    Err(ApiError::Invalid(vec![FieldError::new("name", detail)]))
}
