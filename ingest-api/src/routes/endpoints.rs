//! `/v1/endpoints`: where an organisation's events are delivered.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use shared::egress::EgressConfig;
use shared::id::{EndpointId, OrgId};
use shared::secret::SigningSecret;
use url::Url;
use utoipa::ToSchema;

use crate::admission::{Admin, Admitted};
use crate::error::{ApiError, FieldError, Problem};
use crate::extract::PathId;
use crate::router::App;
use crate::routes::body::read_form;
use crate::scope::Scope;

const MAX_URL_BYTES: usize = 2_048;
const MAX_DESCRIPTION_BYTES: usize = 1_000;
const MAX_EVENT_TYPES: usize = 100;
const MAX_EVENT_TYPE_BYTES: usize = 255;

const MAX_IN_FLIGHT: std::ops::RangeInclusive<i32> = 1..=1_000;
const TIMEOUT_MS: std::ops::RangeInclusive<i32> = 100..=30_000;

/// How an endpoint's deliveries reach their owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, sqlx::Type, ToSchema)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum EndpointKind {
    /// They are sent to its URL.
    #[default]
    Push,
    /// Their owner fetches them.
    Pull,
}

/// Body of `POST /v1/endpoints`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewEndpoint {
    #[serde(default)]
    kind: EndpointKind,
    /// Where deliveries are sent; not for the kind `pull`.
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    description: String,
    /// Exact types, or prefixes that end in `*`; none at all means every type.
    #[serde(default)]
    event_types: Vec<String>,
    #[serde(default = "default_max_in_flight")]
    max_in_flight: i32,
    #[serde(default = "default_timeout_ms")]
    timeout_ms: i32,
}

fn default_max_in_flight() -> i32 {
    64
}

fn default_timeout_ms() -> i32 {
    15_000
}

/// An endpoint, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
pub struct Endpoint {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: EndpointId,
    /// Whether deliveries are sent or fetched.
    pub kind: EndpointKind,
    /// Where deliveries are sent; null when they are fetched.
    pub url: Option<String>,
    /// What its owner calls it.
    pub description: String,
    /// The types it gets; none at all means every type.
    pub event_types: Vec<String>,
    /// Deliveries that one worker sends it at once.
    pub max_in_flight: i32,
    /// How long one attempt may take, in milliseconds.
    pub timeout_ms: i32,
    /// `enabled` or `disabled`.
    pub status: String,
    /// Why it is disabled.
    pub disabled_reason: Option<String>,
}

impl Endpoint {
    /// A new endpoint that gets everything at this URL, as one that is created with nothing but a URL.
    pub fn to_url(url: String, description: &str) -> Self {
        Self {
            id: EndpointId::generate(),
            kind: EndpointKind::Push,
            url: Some(url),
            description: description.to_owned(),
            event_types: Vec::new(),
            max_in_flight: default_max_in_flight(),
            timeout_ms: default_timeout_ms(),
            status: "enabled".to_owned(),
            disabled_reason: None,
        }
    }
}

/// An endpoint with its signing secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedEndpoint {
    #[serde(flatten)]
    endpoint: Endpoint,
    /// Nothing for the kind `pull`: only what is sent is signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    secret: Option<String>,
}

/// `POST /v1/endpoints`.
///
/// # Errors
/// 401, 403, 422, 429.
#[utoipa::path(
    post,
    path = "/v1/endpoints",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    request_body = NewEndpoint,
    responses(
        (status = 201, description = "The endpoint, with its signing secret.", body = CreatedEndpoint),
        (status = 400, description = "The body is not JSON.", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
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
) -> Result<(StatusCode, Json<CreatedEndpoint>), ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    create_for(&app, org_id, &headers, body).await
}

/// `POST /admin/v1/organizations/{org_id}/endpoints`.
///
/// # Errors
/// 401, 404 for an unknown organisation, 422.
#[utoipa::path(
    post,
    path = "/admin/v1/organizations/{org_id}/endpoints",
    tag = "admin",
    security(("admin_token" = [])),
    params(("org_id" = String, Path, format = Uuid)),
    request_body = NewEndpoint,
    responses(
        (status = 201, description = "The endpoint, with its signing secret.", body = CreatedEndpoint),
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
pub async fn create_as_admin(
    _: Admin,
    State(app): State<Arc<App>>,
    PathId(org_id): PathId<OrgId>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedEndpoint>), ApiError> {
    create_for(&app, org_id, &headers, body).await
}

async fn create_for(
    app: &App,
    org_id: OrgId,
    headers: &HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<CreatedEndpoint>), ApiError> {
    let new: NewEndpoint = read_form(headers, body, app.body_timeout).await?;
    let errors = new.errors(&app.egress);
    if !errors.is_empty() {
        return Err(ApiError::Invalid(errors));
    }
    let endpoint = Endpoint {
        id: EndpointId::generate(),
        kind: new.kind,
        url: new.url,
        description: new.description,
        event_types: new.event_types,
        max_in_flight: new.max_in_flight,
        timeout_ms: new.timeout_ms,
        status: "enabled".to_owned(),
        disabled_reason: None,
    };
    let secret = SigningSecret::generate();
    let sealed = secret.seal(&app.secrets_key, endpoint.id);
    if !app.store.create_endpoint(org_id, &endpoint, &sealed).await? {
        return Err(ApiError::NotFound);
    }
    Ok((
        StatusCode::CREATED,
        Json(CreatedEndpoint {
            secret: (endpoint.kind == EndpointKind::Push).then(|| secret.to_text()),
            endpoint,
        }),
    ))
}

/// A page of endpoints.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointList {
    data: Vec<Endpoint>,
}

/// `GET /v1/endpoints`.
///
/// # Errors
/// 401, 403, 429.
#[utoipa::path(
    get,
    path = "/v1/endpoints",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    responses(
        (status = 200, description = "All endpoints of the organisation.", body = EndpointList),
        (status = 401, description = "No valid API key.", body = Problem, content_type = "application/problem+json"),
        (status = 403, description = "The key lacks the scope `manage`.", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "The rate limit is used up.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "The database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub async fn list(State(app): State<Arc<App>>, admitted: Admitted) -> Result<Json<EndpointList>, ApiError> {
    let org_id = admitted.organization_with(Scope::Manage)?;
    Ok(Json(EndpointList {
        data: app.store.list_endpoints(org_id).await?,
    }))
}

impl NewEndpoint {
    /// Everything that is wrong with it.
    fn errors(&self, egress: &EgressConfig) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let mut check = |field: &str, outcome: Result<(), String>| {
            errors.extend(outcome.err().map(|detail| FieldError::new(field, detail)));
        };
        check("url", self.check_url(egress));
        check("description", check_description(&self.description));
        check("event_types", check_event_types(&self.event_types));
        check("max_in_flight", check_range(self.max_in_flight, &MAX_IN_FLIGHT));
        check("timeout_ms", check_range(self.timeout_ms, &TIMEOUT_MS));
        errors
    }

    fn check_url(&self, egress: &EgressConfig) -> Result<(), String> {
        match (self.kind, &self.url) {
            (EndpointKind::Push, Some(url)) => check_url(url, egress),
            (EndpointKind::Push, None) => Err("is missing".to_owned()),
            (EndpointKind::Pull, None) => Ok(()),
            (EndpointKind::Pull, Some(_)) => Err("must not stand beside the kind `pull`".to_owned()),
        }
    }
}

/// Checks where deliveries are to be sent.
///
/// # Errors
/// With what is wrong.
pub fn check_url(text: &str, egress: &EgressConfig) -> Result<(), String> {
    if text.len() > MAX_URL_BYTES {
        return Err(format!("must not be longer than {MAX_URL_BYTES} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("not a URL: {error}"))?;
    egress.check_url(&url).map_err(|refused| refused.to_string())
}

fn check_description(text: &str) -> Result<(), String> {
    if text.len() > MAX_DESCRIPTION_BYTES || text.contains('\0') {
        return Err(format!(
            "must have at most {MAX_DESCRIPTION_BYTES} bytes, none of them NUL"
        ));
    }
    Ok(())
}

fn check_event_types(patterns: &[String]) -> Result<(), String> {
    if patterns.len() > MAX_EVENT_TYPES {
        return Err(format!("must not name more than {MAX_EVENT_TYPES} types"));
    }
    for pattern in patterns {
        let name = pattern.strip_suffix('*').unwrap_or(pattern);
        let is_name = |c: char| !c.is_control() && !c.is_whitespace() && c != '*' && c != '>';
        if pattern.is_empty() || pattern.len() > MAX_EVENT_TYPE_BYTES || !name.chars().all(is_name) {
            return Err(format!(
                "{pattern:?} is neither an event type nor a prefix that ends in `*`"
            ));
        }
    }
    Ok(())
}

/// Checks a number against what is allowed.
///
/// # Errors
/// With what is allowed.
pub fn check_range(value: i32, range: &std::ops::RangeInclusive<i32>) -> Result<(), String> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(format!("must be {} to {}", range.start(), range.end()))
    }
}
