//! `POST /v1/endpoints/{id}/pull`.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use shared::domain::id::EndpointId;
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::form::field_errors::{FieldErrors, check_range};
use crate::domain::form::whole;
use crate::domain::lease;
use crate::http::admission::callers::Manager;
use crate::http::answers::large_json::LargeJson;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEndpoint};
use crate::routes::pull::find_pull;
use crate::routes::pull::pulled::PulledDelivery;
use crate::store::{Pull, PullEndpointRow};

const MAX_DELIVERIES: std::ops::RangeInclusive<i32> = 1..=100;
/// How long a lease holds.
pub(super) const LEASE_SECONDS: std::ops::RangeInclusive<i32> = 1..=3_600;
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
            lease_seconds: default_lease_seconds(),
            wait_seconds: 0,
        }
    }
}

/// How long a lease holds unless its taker says so.
pub(super) fn default_lease_seconds() -> i32 {
    30
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

/// Leases due deliveries of a pull endpoint.
///
/// With `wait_seconds` the answer comes as soon as a delivery is due. The answer holds up to 4 MiB of payloads, or one
/// event, and no more deliveries than `max_in_flight` and `rate_limit_per_second` of the endpoint allow all its consumers
/// together. A delivery that is not acknowledged before `lease_expires_at` comes again. It is dead when the endpoint's
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
    let endpoint = find_pull(&app, &realm, endpoint_id).await?;
    if !endpoint.enabled {
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
        let leased = lease(&app, &pull, &endpoint).await?;
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
    metrics::counter!("penstock_deliveries_pulled_total").increment(deliveries.len() as u64);
    Ok(LargeJson::new(Pulled { deliveries }, share)?.into_response())
}

async fn lease(app: &App, pull: &Pull, endpoint: &PullEndpointRow) -> Result<Vec<PulledDelivery>, ApiError> {
    let token = lease::new_token();
    let rows = app.store.lease_within_limits(pull, endpoint, token).await?;
    rows.into_iter()
        .map(|row| PulledDelivery::new(pull.org_id, endpoint.format, row, token))
        .collect()
}
