//! `/v1/endpoints/{id}/pull` and `/ack`: deliveries that their owner fetches instead of being sent them.
//!
//! A pull leases due deliveries for some time. What is acknowledged under its lease is delivered; the rest comes
//! due again by itself when the lease ends, as after the death of a worker. So delivery is at least once here too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::endpoint::EndpointKind;
use shared::domain::id::{EndpointId, EventId, OrgId};
use time::OffsetDateTime;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::field_errors::{FieldErrors, check_range};
use crate::domain::lease::{self, Lease};
use crate::domain::whole;
use crate::http::body::RequestBody;
use crate::http::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::PathId;
use crate::http::large_json::LargeJson;
use crate::routes::events::view::{payload, raw_json};
use crate::routes::refusals::{FormRefusals, KeyRefusals, NoEndpoint};
use crate::store::{AcknowledgedRow, Pull, PulledRow};

const MAX_DELIVERIES: std::ops::RangeInclusive<i32> = 1..=100;
const LEASE_SECONDS: std::ops::RangeInclusive<i32> = 1..=3_600;
const WAIT_SECONDS: std::ops::RangeInclusive<i32> = 0..=20;

/// Most leases in one acknowledgement.
const MAX_LEASES: usize = 1_000;

/// Body of `POST /v1/endpoints/{id}/pull`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PullRequest {
    /// Most deliveries to lease.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 100, default = 10)]
    max: i32,
    /// How long they are held back from others.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 3600, default = 30)]
    lease_seconds: i32,
    /// How long to wait for the first one.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 0, maximum = 20, default = 0)]
    wait_seconds: i32,
}

impl Default for PullRequest {
    fn default() -> Self {
        Self {
            max: 10,
            lease_seconds: 30,
            wait_seconds: 0,
        }
    }
}

impl PullRequest {
    fn check(&self) -> Result<(), ApiError> {
        let mut errors = FieldErrors::default();
        errors.check("max", check_range(&self.max, &MAX_DELIVERIES));
        let lease = check_range(&self.lease_seconds, &LEASE_SECONDS);
        errors.check("lease_seconds", lease);
        errors.check("wait_seconds", check_range(&self.wait_seconds, &WAIT_SECONDS));
        Ok(errors.finish()?)
    }

    fn wait(&self) -> Duration {
        Duration::from_secs(self.wait_seconds.unsigned_abs().into())
    }
}

/// What a pull leased.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pulled {
    /// Those due longest first; none when nothing became due in time.
    deliveries: Vec<PulledDelivery>,
}

/// A leased delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledDelivery {
    /// What is delivered.
    event: PulledEvent,
    /// To be handed back, unread, in `POST /v1/endpoints/{id}/ack`.
    lease: String,
    /// When others may lease it again.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    lease_expires_at: OffsetDateTime,
    /// Which attempt this is, from 1: each lease that ran out was one.
    attempt: i32,
}

/// An event as consumers get it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledEvent {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// Its type.
    #[serde(rename = "type")]
    event_type: String,
    /// When it was accepted.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    accepted_at: OffsetDateTime,
    /// Media type of its payload.
    content_type: String,
    /// The key that its producer sent; of a CloudEvent, its `source` and `id` as a JSON array.
    idempotency_key: Option<String>,
    /// The producer's ordering key. Pulled deliveries come in no order.
    ordering_key: Option<String>,
    /// W3C trace context of the request that brought it.
    traceparent: Option<String>,
    /// The context attributes of a CloudEvent, its extensions included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    cloudevent: Option<Box<RawValue>>,
    /// The payload, byte for byte, when it is JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<serde_json::Value>)]
    data: Option<Box<RawValue>>,
    /// The payload in base64 when it is not JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    data_base64: Option<String>,
}

impl PulledDelivery {
    fn new(row: PulledRow, token: shared::domain::id::LeaseToken) -> Result<Self, ApiError> {
        let lease = Lease {
            event_id: row.event_id,
            accepted_at: row.accepted_at,
            token,
        };
        let (data, data_base64) = payload(&row.content_type, row.data)?;
        Ok(Self {
            event: PulledEvent {
                id: row.event_id,
                event_type: row.event_type,
                accepted_at: row.accepted_at,
                content_type: row.content_type,
                idempotency_key: row.idempotency_key,
                ordering_key: row.ordering_key,
                traceparent: row.traceparent,
                cloudevent: row.cloudevent.map(raw_json).transpose()?,
                data,
                data_base64,
            },
            lease: lease.encode(),
            lease_expires_at: row.lease_expires_at,
            attempt: row.attempts + 1,
        })
    }
}

/// Leases due deliveries of a pull endpoint.
///
/// With `wait_seconds` the answer comes as soon as something is due. It holds up to 4 MiB of payloads, or one event.
/// What is not acknowledged before `lease_expires_at` comes again, until the endpoint's `retry.attempts` leases have run out
/// or it is older than `retry.max_age_seconds`: then it is dead.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/pull",
    operation_id = "pull_deliveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "A pull endpoint.")),
    request_body = PullRequest,
    responses(
        (status = 200, description = "The leased deliveries, perhaps none.", body = Pulled),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "The endpoint's deliveries are sent to its URL, or it is disabled.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn pull(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { org_id, admitted }: Manager,
    mut body: RequestBody,
) -> Result<Response, ApiError> {
    if !check_is_pull(&app, org_id, endpoint_id).await? {
        return Err(ApiError::Conflict("the endpoint is disabled"));
    }
    let request: PullRequest = body.form().await?;
    request.check()?;
    let pull = Pull {
        org_id,
        endpoint_id,
        max: request.max,
        lease_seconds: request.lease_seconds,
    };
    let look = async || {
        let share = app.answers.reserve().await?;
        admitted.check_unchanged().await?;
        let leased = lease(&app, &pull).await?;
        // What is leased and not handed out comes back.
        admitted.check_unchanged().await?;
        Ok::<_, ApiError>((!leased.is_empty()).then_some((share, leased)))
    };
    let mut found = look().await?;
    if found.is_none() && request.wait_seconds > 0 {
        let place = app.waiters.enter(org_id, endpoint_id);
        found = place.look_until(Instant::now() + request.wait(), look).await?;
    }
    let Some((share, deliveries)) = found else {
        let deliveries = Vec::new();
        return Ok(Json(Pulled { deliveries }).into_response());
    };
    metrics::counter!("deliveries_pulled_total").increment(deliveries.len() as u64);
    Ok(LargeJson::new(Pulled { deliveries }, share)?.into_response())
}

async fn lease(app: &App, pull: &Pull) -> Result<Vec<PulledDelivery>, ApiError> {
    let token = lease::new_token();
    let rows = app.store.lease_deliveries(pull, token).await?;
    rows.into_iter()
        .map(|row| PulledDelivery::new(row, token))
        .collect()
}

/// Whether a pull endpoint is enabled; an error when it is not one, or another organisation's.
async fn check_is_pull(app: &App, org_id: OrgId, id: EndpointId) -> Result<bool, ApiError> {
    match app.store.find_endpoint_kind(org_id, id).await? {
        None => Err(ApiError::NotFound),
        Some((EndpointKind::Push, _)) => Err(ApiError::Conflict(
            "the endpoint is of kind `push`: its deliveries are sent to its URL",
        )),
        Some((EndpointKind::Pull, enabled)) => Ok(enabled),
    }
}

/// Body of `POST /v1/endpoints/{id}/ack`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckRequest {
    /// `lease` of each delivery that is done with.
    #[schema(min_items = 1, max_items = 1000)]
    leases: Vec<String>,
}

/// What became of an acknowledgement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Acknowledged {
    /// One for each lease, in the order of the request.
    results: Vec<AckResult>,
}

/// What became of one lease.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AckResult {
    /// As it was sent.
    lease: String,
    /// What became of it.
    outcome: AckOutcome,
}

/// Where a delivery stands after its lease was handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AckOutcome {
    /// It is delivered, now.
    Acknowledged,
    /// It had been acknowledged before, under this lease or another.
    AlreadyAcknowledged,
    /// The delivery is not held under this lease, or not any more: it comes again, here or elsewhere, unless it is dead.
    Expired,
    /// The endpoint has no such delivery.
    Unknown,
}

impl AckOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::AlreadyAcknowledged => "already_acknowledged",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl From<AcknowledgedRow> for AckOutcome {
    fn from(row: AcknowledgedRow) -> Self {
        match (row.acknowledged, row.status) {
            (true, _) => Self::Acknowledged,
            (false, Some(DeliveryStatus::Delivered)) => Self::AlreadyAcknowledged,
            (false, Some(_)) => Self::Expired,
            (false, None) => Self::Unknown,
        }
    }
}

/// Acknowledges pulled deliveries: they are delivered and do not come again.
///
/// A lease that ran out is still good while nobody else has leased the delivery. Repeating an acknowledgement
/// changes nothing.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/ack",
    operation_id = "acknowledge_deliveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "A pull endpoint.")),
    request_body = AckRequest,
    responses(
        (status = 200, description = "An outcome for each lease.", body = Acknowledged),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "The endpoint's deliveries are sent to its URL.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn acknowledge(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { org_id, .. }: Manager,
    mut body: RequestBody,
) -> Result<Json<Acknowledged>, ApiError> {
    check_is_pull(&app, org_id, endpoint_id).await?;
    let AckRequest { leases } = body.form().await?;
    if !(1..=MAX_LEASES).contains(&leases.len()) {
        let detail = format!("must hold 1 to {MAX_LEASES} leases");
        return Err(ApiError::invalid("leases", detail));
    }
    let known: BTreeSet<_> = leases.iter().filter_map(|text| Lease::decode(text)).collect();
    let known = Vec::from_iter(known);
    let rows = app
        .store
        .acknowledge_deliveries(org_id, endpoint_id, &known)
        .await?;
    let outcomes: BTreeMap<_, AckOutcome> = known.iter().zip(rows.into_iter().map(Into::into)).collect();
    for outcome in outcomes.values() {
        metrics::counter!("pull_acknowledgements_total", "outcome" => outcome.name()).increment(1);
    }
    let results = leases.into_iter().map(|text| {
        let outcome = Lease::decode(&text).and_then(|lease| outcomes.get(&lease).copied());
        AckResult {
            lease: text,
            outcome: outcome.unwrap_or(AckOutcome::Unknown),
        }
    });
    Ok(Json(Acknowledged {
        results: results.collect(),
    }))
}
