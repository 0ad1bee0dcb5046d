//! `POST /v1/endpoints/{id}/ack`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::EndpointId;
use utoipa::ToSchema;

use crate::app::App;
use crate::domain::form::whole;
use crate::http::admission::callers::Manager;
use crate::http::error::{ApiError, Problem};
use crate::http::request::body::RequestBody;
use crate::http::request::extract::PathId;
use crate::routes::openapi::refusals::{FormRefusals, KeyRefusals, NoEndpoint};
use crate::routes::pull::check_is_pull;
use crate::routes::pull::give_back::{NackResult, check_delay, give_back_leases};
use crate::routes::pull::leases::Leases;
use crate::store::AcknowledgedRow;

/// Body of `POST /v1/endpoints/{id}/ack`.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct AckRequest {
    /// The `lease` of each delivery to acknowledge.
    #[schema(min_items = 1, max_items = 1000)]
    leases: Vec<String>,
    /// The `lease` of each delivery to give back, as `POST /v1/endpoints/{id}/nack` does: a consumer that stops ends all its
    /// leases with one request.
    #[serde(default)]
    #[schema(max_items = 1000)]
    nack: Vec<String>,
    /// How long nobody gets what is given back, in seconds.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(minimum = 0, maximum = 86_400, default = 0)]
    delay_seconds: i32,
}

/// The results of an acknowledgement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Acknowledged {
    /// One result for each lease, in the order of the request.
    results: Vec<AckResult>,
    /// One result for each lease in `nack`, in the order of the request; left out without them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    nack_results: Vec<NackResult>,
}

/// The result for one lease.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AckResult {
    /// The lease, as it was sent.
    lease: String,
    /// What the acknowledgement did.
    outcome: AckOutcome,
}

/// What the acknowledgement of one lease did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AckOutcome {
    /// The delivery is delivered now.
    Acknowledged,
    /// The delivery was acknowledged before, under this lease or another.
    AlreadyAcknowledged,
    /// The lease does not hold, or does not hold any more. The delivery comes again, unless it is dead.
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
/// changes nothing. What `nack` names is given back.
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
    Manager { realm, .. }: Manager,
    mut body: RequestBody,
) -> Result<Json<Acknowledged>, ApiError> {
    check_is_pull(&app, &realm, endpoint_id).await?;
    let AckRequest {
        leases,
        nack,
        delay_seconds,
    } = body.form().await?;
    check_delay(delay_seconds)?;
    let leases = Leases::read("leases", leases)?;
    let nack = if nack.is_empty() {
        None
    } else {
        Some(Leases::read("nack", nack)?)
    };
    if nack.as_ref().is_some_and(|nack| nack.overlaps(&leases)) {
        return Err(ApiError::invalid("nack", "must not name a lease of `leases`"));
    }
    let rows = app
        .store
        .acknowledge_deliveries(realm.org_id, endpoint_id, leases.known())
        .await?;
    let outcomes: Vec<AckOutcome> = rows.into_iter().map(Into::into).collect();
    for outcome in &outcomes {
        metrics::counter!("penstock_pull_acknowledgements_total", "outcome" => outcome.name()).increment(1);
    }
    let results = leases.results(outcomes, |lease, outcome| AckResult {
        lease,
        outcome: outcome.unwrap_or(AckOutcome::Unknown),
    });
    let nack_results = match nack {
        Some(nack) => give_back_leases(&app, (realm.org_id, endpoint_id), nack, delay_seconds).await?,
        None => Vec::new(),
    };
    Ok(Json(Acknowledged {
        results,
        nack_results,
    }))
}
