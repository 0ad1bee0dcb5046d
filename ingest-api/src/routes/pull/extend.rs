//! `POST /v1/endpoints/{id}/extend`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::EndpointId;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::form::field_errors::check_range;
use crate::domain::form::whole;
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEndpoint};
use crate::routes::pull::check_is_pull;
use crate::routes::pull::lease::{LEASE_SECONDS, default_lease_seconds};
use crate::routes::pull::leases::Leases;
use crate::store::ExtendedRow;

/// Body of `POST /v1/endpoints/{id}/extend`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ExtendRequest {
    /// The `lease` of each delivery that its consumer still works on.
    #[schema(min_items = 1, max_items = 1000)]
    leases: Vec<String>,
    /// How long the leases hold from now on, in seconds.
    #[serde(default = "default_lease_seconds", deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 3600, default = 30)]
    lease_seconds: i32,
}

/// The results of extending leases.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Extended {
    /// One result for each lease, in the order of the request.
    results: Vec<ExtendResult>,
}

/// The result for one lease that is extended.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ExtendResult {
    /// The lease, as it was sent.
    lease: String,
    /// Whether it holds.
    outcome: ExtendOutcome,
    /// When it ends now; null when it does not hold.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    lease_expires_at: Option<OffsetDateTime>,
}

/// Whether a lease was extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExtendOutcome {
    /// It holds until its new end.
    Extended,
    /// The delivery was acknowledged before, under this lease or another.
    AlreadyAcknowledged,
    /// The lease does not hold, or does not hold any more. The delivery comes again, unless it is dead.
    Expired,
    /// The endpoint has no such delivery.
    Unknown,
}

impl From<&ExtendedRow> for ExtendOutcome {
    fn from(row: &ExtendedRow) -> Self {
        match (row.lease_expires_at, row.status) {
            (Some(_), _) => Self::Extended,
            (None, Some(DeliveryStatus::Delivered)) => Self::AlreadyAcknowledged,
            (None, Some(_)) => Self::Expired,
            (None, None) => Self::Unknown,
        }
    }
}

/// Extends leases: they end `lease_seconds` from now, earlier or later than before.
///
/// A lease that ran out is extended too while nobody else has leased the delivery, as it could be acknowledged too. It counts for
/// the endpoint's `max_in_flight` again, even where others have used its place meanwhile. The lease stays the same text.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/extend",
    operation_id = "extend_leases",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "A pull endpoint.")),
    request_body = ExtendRequest,
    responses(
        (status = 200, description = "An outcome for each lease.", body = Extended),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "The endpoint's deliveries are sent to its URL.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn extend(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<Json<Extended>, ApiError> {
    check_is_pull(&app, &realm, endpoint_id).await?;
    let ExtendRequest {
        leases,
        lease_seconds,
    } = body.form().await?;
    check_range(&lease_seconds, &LEASE_SECONDS)
        .map_err(|detail| ApiError::invalid("lease_seconds", detail))?;
    let leases = Leases::read("leases", leases)?;
    let rows = app
        .store
        .extend_leases(realm.org_id, endpoint_id, leases.known(), lease_seconds)
        .await?;
    let outcomes = rows
        .iter()
        .map(|row| (ExtendOutcome::from(row), row.lease_expires_at));
    let results = leases.results(outcomes, |lease, outcome| {
        let (outcome, lease_expires_at) = outcome.unwrap_or((ExtendOutcome::Unknown, None));
        ExtendResult {
            lease,
            outcome,
            lease_expires_at,
        }
    });
    Ok(Json(Extended { results }))
}
