//! `/v1/endpoints`: an organisation's endpoints, with their deliveries and recoveries.

pub(crate) mod form;
mod schema;
mod new_endpoint;
pub(crate) mod manage;
pub(crate) mod list;
pub(crate) mod secret;
pub(crate) mod test_event;
pub(crate) mod deliveries;
pub(crate) mod recoveries;

use std::time::Duration;

use axum::Json;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted};
use shared::domain::event_type::EventTypePattern;
use shared::domain::headers::CustomHeaders;
use shared::domain::id::EndpointId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::endpoint::{Limits, RetrySettings, Settings};
use crate::domain::realm::Realm;
use crate::http::error::ApiError;
use crate::http::etag::{Shown, etag};
use crate::store::EndpointRow;

/// An endpoint, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::option_option,
    reason = "a field is left out where it has no meaning, and null where the workers decide"
)]
pub(crate) struct Endpoint {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: EndpointId,
    /// Whether deliveries are sent or fetched.
    kind: EndpointKind,
    /// The tenant whose events it gets; null for the organisation's own.
    tenant: Option<Tenant>,
    /// Whether it gets the events of all tenants beside the organisation's own.
    all_tenants: bool,
    /// Where deliveries are sent; null when they are fetched.
    url: Option<String>,
    /// The owner's description.
    description: String,
    /// The event types that it gets. An empty list means every type.
    event_types: Vec<EventTypePattern>,
    /// The conditions that a payload must meet; null means every payload.
    #[schema(value_type = Option<serde_json::Value>)]
    filter: Option<Box<RawValue>>,
    /// The names of its own request headers. Their values are not shown. Only for the kind `push`, like `format`,
    /// `timeout_ms`, `max_in_flight`, `rate_limit_per_second`, `ordered` and `on_exhausted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Vec<String>)]
    header_names: Option<Vec<String>>,
    /// The form of a webhook's body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Format)]
    format: Option<Format>,
    /// Its own retry policy. Where a field is null, the workers' policy holds; a pulled delivery then has no such end.
    retry: RetryView,
    /// How long one attempt may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = i32)]
    timeout_ms: Option<i32>,
    /// Most deliveries that one worker has in flight to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = i32)]
    max_in_flight: Option<i32>,
    /// Most deliveries a second from all workers together; null is no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<i32>)]
    rate_limit_per_second: Option<Option<i32>>,
    /// Whether the deliveries of one ordering key are sent one after another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = bool)]
    ordered: Option<bool>,
    /// What an ordered endpoint does when a delivery is out of attempts.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = OnExhausted)]
    on_exhausted: Option<OnExhausted>,
    /// Whether the endpoint gets deliveries.
    status: EndpointStatus,
    /// Why it is disabled.
    disabled_reason: Option<String>,
    /// How its last deliveries ended.
    health: Health,
    /// Until when deliveries are also signed with the secret from before the last rotation.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    previous_secret_expires_at: Option<OffsetDateTime>,
    /// When it was made.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    created_at: OffsetDateTime,
    /// When it was last changed.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    updated_at: OffsetDateTime,
}

/// An endpoint's own retry policy.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::option_option,
    reason = "a field is left out where it has no meaning, and null where the workers decide"
)]
pub(crate) struct RetryView {
    /// Attempts after which a delivery is dead.
    attempts: Option<i32>,
    /// Longest wait after the first attempt. Only for the kind `push`, like `factor` and `max_seconds`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<f64>)]
    initial_seconds: Option<Option<f64>>,
    /// How many times longer each wait is than the one before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<f64>)]
    factor: Option<Option<f64>>,
    /// Longest wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<f64>)]
    max_seconds: Option<Option<f64>>,
    /// Age after which a delivery that fails again is dead.
    max_age_seconds: Option<f64>,
}

/// How an endpoint's last deliveries ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Whether the last delivery succeeded.
    state: HealthState,
    /// Failures since the last success.
    consecutive_failures: i32,
    /// When the first of these failures was.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    failing_since: Option<OffsetDateTime>,
    /// The circuit is open until this time, and no delivery is sent. Then one delivery is sent as a probe.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    circuit_open_until: Option<OffsetDateTime>,
}

/// Whether an endpoint's last delivery succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthState {
    /// It succeeded, or there was none.
    Healthy,
    /// It failed.
    Failing,
}

impl RetryView {
    fn new(retry: RetrySettings, is_sent: bool) -> Self {
        let seconds = |duration: Option<Duration>| duration.map(|duration| duration.as_secs_f64());
        Self {
            attempts: retry.attempts,
            initial_seconds: is_sent.then(|| seconds(retry.initial)),
            factor: is_sent.then_some(retry.factor),
            max_seconds: is_sent.then(|| seconds(retry.max)),
            max_age_seconds: seconds(retry.max_age),
        }
    }
}

impl Endpoint {
    fn new(app: &App, row: EndpointRow) -> Result<Self, ApiError> {
        let state = if row.failing_since.is_some() {
            HealthState::Failing
        } else {
            HealthState::Healthy
        };
        let health = Health {
            state,
            consecutive_failures: row.consecutive_failures.unwrap_or(0),
            failing_since: row.failing_since,
            circuit_open_until: row.open_until,
        };
        let settings = settings(app, &row)?;
        // The stored values of these fields mean nothing for a pull endpoint.
        let is_sent = row.kind == EndpointKind::Push;
        let filter = settings.filter.map(RawValue::from_string).transpose();
        Ok(Self {
            id: row.id,
            kind: row.kind,
            tenant: row.tenant,
            all_tenants: row.all_tenants,
            url: settings.url,
            description: settings.description,
            event_types: settings.event_types,
            filter: filter.map_err(|error| ApiError::Internal(error.into()))?,
            header_names: is_sent.then(|| settings.headers.names().map(str::to_owned).collect()),
            format: is_sent.then_some(settings.format),
            retry: RetryView::new(settings.retry, is_sent),
            timeout_ms: is_sent.then_some(settings.limits.timeout_ms),
            max_in_flight: is_sent.then_some(settings.limits.max_in_flight),
            rate_limit_per_second: is_sent.then_some(settings.rate_limit_per_second),
            ordered: is_sent.then_some(settings.ordered),
            on_exhausted: is_sent.then_some(settings.on_exhausted),
            status: settings.status,
            disabled_reason: row.disabled_reason,
            health,
            previous_secret_expires_at: row.previous_secret_expires_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

/// The settings of a stored endpoint.
fn settings(app: &App, row: &EndpointRow) -> Result<Settings, ApiError> {
    let headers = CustomHeaders::unseal(row.headers.as_deref(), &app.secrets_key, row.id);
    let duration = |ms: Option<i64>| {
        ms.and_then(|ms| u64::try_from(ms).ok())
            .map(Duration::from_millis)
    };
    Ok(Settings {
        url: row.url.clone(),
        description: row.description.clone(),
        event_types: row.event_types.clone(),
        filter: row.filter.clone(),
        headers: headers.map_err(|error| ApiError::Internal(error.into()))?,
        format: row.format,
        retry: RetrySettings {
            attempts: row.retry_attempts,
            initial: duration(row.retry_initial_ms),
            factor: row.retry_factor,
            max: duration(row.retry_max_ms),
            max_age: duration(row.retry_max_age_ms),
        },
        limits: Limits {
            timeout_ms: row.timeout_ms,
            max_in_flight: row.max_in_flight,
        },
        rate_limit_per_second: row.rate_limit_per_second,
        ordered: row.ordered,
        on_exhausted: row.on_exhausted,
        status: row.status,
    })
}

async fn find(app: &App, realm: &Realm, id: EndpointId) -> Result<EndpointRow, ApiError> {
    app.store
        .find_endpoint(realm, id)
        .await?
        .ok_or(ApiError::NotFound)
}

/// Checks that an endpoint belongs to the tenant that the key is bound to, if it is bound.
///
/// # Errors
/// 404 when it does not.
async fn check_owner(app: &App, realm: &Realm, id: EndpointId) -> Result<(), ApiError> {
    if realm.tenant.is_some() && app.store.find_endpoint_kind(realm, id).await?.is_none() {
        return Err(ApiError::NotFound);
    }
    Ok(())
}

async fn show_stored(app: &App, realm: &Realm, id: EndpointId) -> Result<Shown<Endpoint>, ApiError> {
    let row = find(app, realm, id).await?;
    Ok((etag(row.version), Json(Endpoint::new(app, row)?)))
}
