//! `POST /v1/endpoints/{id}/pull`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::id::{EndpointId, EventId, LeaseToken};
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
use crate::routes::pull::check_is_pull;
use crate::routes::refusals::{FormRefusals, KeyRefusals, NoEndpoint};
use crate::store::{Pull, PulledRow};

const MAX_DELIVERIES: std::ops::RangeInclusive<i32> = 1..=100;
const LEASE_SECONDS: std::ops::RangeInclusive<i32> = 1..=3_600;
const WAIT_SECONDS: std::ops::RangeInclusive<i32> = 0..=20;

/// Body of `POST /v1/endpoints/{id}/pull`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct PullRequest {
    /// Most deliveries to lease.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 100, default = 10)]
    max: i32,
    /// How long other requests do not get them, in seconds.
    #[serde(deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 3600, default = 30)]
    lease_seconds: i32,
    /// How long to wait until a delivery is due, in seconds.
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

/// The deliveries that a pull leased.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Pulled {
    /// The deliveries, longest due first. Empty when none became due in time.
    deliveries: Vec<PulledDelivery>,
}

/// A leased delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledDelivery {
    /// The event.
    event: PulledEvent,
    /// The token that `POST /v1/endpoints/{id}/ack` takes.
    lease: String,
    /// When the lease ends and others may lease the delivery.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    lease_expires_at: OffsetDateTime,
    /// The number of this attempt, from 1. Each lease that ran out was an attempt.
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
    /// The organisation's customer whose event it is.
    tenant: Option<String>,
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
    fn new(row: PulledRow, token: LeaseToken) -> Result<Self, ApiError> {
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
                tenant: row.tenant,
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
/// With `wait_seconds` the answer comes as soon as a delivery is due. The answer holds up to 4 MiB of payloads, or one
/// event. A delivery that is not acknowledged before `lease_expires_at` comes again. It is dead when the endpoint's
/// `retry.attempts` leases have run out, or when it is older than `retry.max_age_seconds`.
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
    Manager { realm, admitted }: Manager,
    mut body: RequestBody,
) -> Result<Response, ApiError> {
    if !check_is_pull(&app, &realm, endpoint_id).await? {
        return Err(ApiError::Conflict("the endpoint is disabled"));
    }
    let request: PullRequest = body.form().await?;
    request.check()?;
    let pull = Pull {
        org_id: realm.org_id,
        endpoint_id,
        max: request.max,
        lease_seconds: request.lease_seconds,
    };
    let look = async || {
        let share = app.answers.reserve().await?;
        admitted.check_unchanged().await?;
        let leased = lease(&app, &pull).await?;
        // Deliveries that are leased and not handed out come due again.
        admitted.check_unchanged().await?;
        Ok::<_, ApiError>((!leased.is_empty()).then_some((share, leased)))
    };
    let mut found = look().await?;
    if found.is_none() && request.wait_seconds > 0 {
        let place = app.waiters.enter(realm.org_id, endpoint_id);
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
