//! `POST /v1/endpoints/{id}/nack`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, OrgId};
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
use crate::routes::pull::leases::Leases;
use crate::store::NackedRow;

/// Seconds.
const DELAY: std::ops::RangeInclusive<i32> = 0..=86_400;

/// Body of `POST /v1/endpoints/{id}/nack`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NackRequest {
    /// The `lease` of each delivery to give back.
    #[schema(min_items = 1, max_items = 1000)]
    leases: Vec<String>,
    /// How long nobody gets them, in seconds.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(minimum = 0, maximum = 86_400, default = 0)]
    delay_seconds: i32,
}

/// The results of giving deliveries back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GivenBack {
    /// One result for each lease, in the order of the request.
    results: Vec<NackResult>,
}

/// The result for one lease that is given back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NackResult {
    /// The lease, as it was sent.
    lease: String,
    /// What became of the delivery.
    outcome: NackOutcome,
}

/// What became of a delivery that is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum NackOutcome {
    /// It comes again after the delay.
    Nacked,
    /// It is dead: it was the last of its attempts, or it is too old.
    Dead,
    /// It was acknowledged before, under this lease or another.
    AlreadyAcknowledged,
    /// The lease does not hold, or does not hold any more. The delivery comes again, unless it is dead.
    Expired,
    /// The endpoint has no such delivery.
    Unknown,
}

impl NackOutcome {
    fn name(self) -> &'static str {
        match self {
            Self::Nacked => "nacked",
            Self::Dead => "dead",
            Self::AlreadyAcknowledged => "already_acknowledged",
            Self::Expired => "expired",
            Self::Unknown => "unknown",
        }
    }
}

impl From<NackedRow> for NackOutcome {
    fn from(row: NackedRow) -> Self {
        match (row.now, row.status) {
            (Some(DeliveryStatus::Dead), _) => Self::Dead,
            (Some(_), _) => Self::Nacked,
            (None, Some(DeliveryStatus::Delivered)) => Self::AlreadyAcknowledged,
            (None, Some(_)) => Self::Expired,
            (None, None) => Self::Unknown,
        }
    }
}

/// Checks how long nobody shall get what is given back.
///
/// # Errors
/// 422 when it is too long.
pub(super) fn check_delay(seconds: i32) -> Result<(), ApiError> {
    check_range(&seconds, &DELAY).map_err(|detail| ApiError::invalid("delay_seconds", detail))
}

/// Gives pulled deliveries back without having worked on them: they come again after `delay_seconds`.
///
/// Each counts as an attempt, which is recorded with the outcome `rejected`. A delivery that is out of `retry.attempts`, or older than
/// `retry.max_age_seconds`, is dead. A lease that ran out is still good while nobody else has leased the delivery.
#[utoipa::path(
    post,
    path = "/v1/endpoints/{id}/nack",
    operation_id = "give_back_deliveries",
    tag = "endpoints",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "A pull endpoint.")),
    request_body = NackRequest,
    responses(
        (status = 200, description = "An outcome for each lease.", body = GivenBack),
        KeyRefusals, FormRefusals, NoEndpoint,
        (status = 409, description = "The endpoint's deliveries are sent to its URL.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn give_back(
    State(app): State<Arc<App>>,
    PathId(endpoint_id): PathId<EndpointId>,
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<Json<GivenBack>, ApiError> {
    check_is_pull(&app, &realm, endpoint_id).await?;
    let NackRequest {
        leases,
        delay_seconds,
    } = body.form().await?;
    check_delay(delay_seconds)?;
    let leases = Leases::read("leases", leases)?;
    let results = give_back_leases(&app, (realm.org_id, endpoint_id), leases, delay_seconds).await?;
    Ok(Json(GivenBack { results }))
}

/// Gives back what an endpoint's leases hold, and says what became of each.
///
/// # Errors
/// Those of the database.
pub(super) async fn give_back_leases(
    app: &App,
    (org_id, endpoint_id): (OrgId, EndpointId),
    leases: Leases,
    delay_seconds: i32,
) -> Result<Vec<NackResult>, ApiError> {
    let rows = app
        .store
        .give_back_deliveries(org_id, endpoint_id, leases.known(), delay_seconds)
        .await?;
    let outcomes: Vec<NackOutcome> = rows.into_iter().map(Into::into).collect();
    for outcome in &outcomes {
        metrics::counter!("penstock_pull_acknowledgements_total", "outcome" => outcome.name()).increment(1);
    }
    Ok(leases.results(outcomes, |lease, outcome| NackResult {
        lease,
        outcome: outcome.unwrap_or(NackOutcome::Unknown),
    }))
}
