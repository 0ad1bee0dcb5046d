//! `/v1/endpoints`: an organisation's endpoints, with their deliveries and recoveries.

pub(crate) mod form;
mod stored;
pub(crate) mod manage;
pub(crate) mod list;
pub(crate) mod secret;
pub(crate) mod public_key;
pub(crate) mod test_event;
pub(crate) mod deliveries;
pub(crate) mod dead;
pub(crate) mod stats;
pub(crate) mod recoveries;

use axum::Json;
use serde::Serialize;
use serde_json::value::RawValue;
use shared::domain::endpoint::{EndpointKind, EndpointStatus, Format, OnExhausted, WebhookMethod};
use shared::domain::event::JSON;
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::EndpointId;
use shared::domain::name::Tenant;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::http::answers::etag::{Shown, etag};
use crate::http::error::ApiError;
use crate::routes::endpoints::form::auth::AuthView;
use crate::routes::endpoints::form::retry::RetryView;
use crate::routes::endpoints::form::signatures::SignatureView;
use crate::routes::endpoints::stored::Opened;
use crate::routes::trials::templates::form::TemplateView;
use crate::store::EndpointRow;

/// An endpoint, as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
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
    /// The names of its own request headers. Their values are not shown. Only for the kind `push`, like `timeout_ms`, `ordered`
    /// and `on_exhausted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Vec<String>)]
    header_names: Option<Vec<String>>,
    /// The form of a webhook's body, or of a pulled event.
    format: Format,
    /// The method of its requests. Only for the kind `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = WebhookMethod)]
    method: Option<WebhookMethod>,
    /// The schemes that its webhooks are signed with. Only for the kind `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Vec<SignatureView>)]
    signatures: Option<Vec<SignatureView>>,
    /// What requests show besides their signature, without what is secret. Only for the kind `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = Option<AuthView>)]
    #[expect(
        clippy::option_option,
        reason = "it is absent for a pull endpoint, and null when there are none"
    )]
    auth: Option<Option<AuthView>>,
    /// Whether a template renders the body instead. Only for the kind `push`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = bool)]
    has_template: Option<bool>,
    /// The template, if there is one. Lists leave it out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = TemplateView)]
    template: Option<TemplateView>,
    /// Its own retry policy. Where a field is null, the workers' policy holds; a pulled delivery then has no such end.
    retry: RetryView,
    /// How long one attempt may take, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false, value_type = i32)]
    timeout_ms: Option<i32>,
    /// Most deliveries that one worker has in flight to it. Of the kind `pull`, most that are leased at once; null is no limit.
    max_in_flight: Option<i32>,
    /// Most deliveries a second from all workers, or to all consumers, together; null is no limit.
    rate_limit_per_second: Option<i32>,
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

/// How an endpoint's last deliveries ended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Health {
    /// Whether the last delivery succeeded, or the receiver wants none for now.
    state: HealthState,
    /// Failures since the last success.
    consecutive_failures: i32,
    /// When the first of these failures was.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    failing_since: Option<OffsetDateTime>,
    /// The circuit is open until this time, and no delivery is sent. Then one delivery is sent as a probe.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    circuit_open_until: Option<OffsetDateTime>,
    /// The receiver asked to wait (429 or 503 with `Retry-After`): no delivery is sent before this time. Then one is, as a
    /// probe.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    waiting_until: Option<OffsetDateTime>,
}

/// Whether an endpoint's last delivery succeeded, or its receiver wants none for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthState {
    /// It succeeded, or there was none.
    Healthy,
    /// It failed.
    Failing,
    /// The receiver asked to wait.
    Waiting,
}

impl Endpoint {
    fn new(app: &App, row: EndpointRow) -> Result<Self, ApiError> {
        let Opened {
            row,
            headers,
            signatures,
            auth,
        } = Opened::new(app, row)?;
        let state = if row.waits_until.is_some() {
            HealthState::Waiting
        } else if row.failing_since.is_some() {
            HealthState::Failing
        } else {
            HealthState::Healthy
        };
        let health = Health {
            state,
            consecutive_failures: row.consecutive_failures.unwrap_or(0),
            failing_since: row.failing_since,
            circuit_open_until: row.open_until,
            waiting_until: row.waits_until,
        };
        // The stored values of these fields mean nothing for a pull endpoint.
        let is_sent = row.kind.is_sent();
        let retry = RetryView::new(&row);
        let filter = row.filter.map(RawValue::from_string).transpose();
        Ok(Self {
            id: row.id,
            kind: row.kind,
            tenant: row.tenant,
            all_tenants: row.all_tenants,
            url: row.url,
            description: row.description,
            event_types: row.event_types,
            filter: filter.map_err(|error| ApiError::Internal(error.into()))?,
            header_names: is_sent.then(|| headers.names().map(str::to_owned).collect()),
            format: row.format.format,
            method: is_sent.then_some(row.method),
            signatures: is_sent.then(|| form::signatures::view(signatures.as_ref())),
            auth: is_sent.then(|| auth.as_ref().map(AuthView::new)),
            has_template: is_sent.then_some(row.template.is_some()),
            template: row.template.map(|body| TemplateView {
                body,
                content_type: row.template_content_type.unwrap_or_else(|| JSON.to_owned()),
            }),
            retry,
            timeout_ms: is_sent.then_some(row.timeout_ms),
            max_in_flight: if is_sent {
                Some(row.max_in_flight)
            } else {
                row.max_leased
            },
            rate_limit_per_second: row.rate_limit_per_second,
            ordered: is_sent.then_some(row.ordered),
            on_exhausted: is_sent.then_some(row.on_exhausted),
            status: row.status,
            disabled_reason: row.disabled_reason,
            health,
            previous_secret_expires_at: row.previous_secret_expires_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

impl Endpoint {
    /// As lists show it: without its template, which may be long and hold keys of its owner.
    fn in_list(self) -> Self {
        Self {
            template: None,
            ..self
        }
    }
}

/// An endpoint of a realm.
///
/// # Errors
/// 404 when it has no such endpoint.
pub(crate) async fn find(app: &App, realm: &Realm, id: EndpointId) -> Result<EndpointRow, ApiError> {
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
    if realm.tenant.is_some() && app.store.find_brief_endpoint(realm, id).await?.is_none() {
        return Err(ApiError::NotFound);
    }
    Ok(())
}

async fn show_stored(app: &App, realm: &Realm, id: EndpointId) -> Result<Shown<Endpoint>, ApiError> {
    let row = find(app, realm, id).await?;
    Ok((etag(row.version), Json(Endpoint::new(app, row)?)))
}
