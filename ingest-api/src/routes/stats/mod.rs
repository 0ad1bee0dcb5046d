//! `GET /v1/stats`: what goes on now, and went on lately.

pub(crate) mod admin;
mod history;
mod live;
pub(crate) mod tail;

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::{IntoResponse as _, Response};
use serde::{Deserialize, Serialize};
use shared::domain::endpoint::EndpointStatus;
use shared::domain::id::EndpointId;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use self::history::{History, Period};
use self::live::Watching;
use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::http::admission::callers::Manager;
use crate::http::answers::live::{CROWDED, EVENT_STREAM, Going, LiveEvent, answer};
use crate::http::error::{ApiError, Problem};
use crate::http::request::extract::Params;
use crate::routes::openapi::refusals::{KeyRefusals, ListRefusals};
use crate::store::{EndpointCounts, MAX_COUNTED, RecentRow, TroubledRow, WaitingRow};

/// How many tenants that were refused are named.
const REFUSED_TENANTS: usize = 20;

/// Which figures, and for how long.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct StatsParams {
    /// Also what went on in this time.
    #[param(inline)]
    period: Option<Period>,
    /// How long an answer of server-sent events goes on.
    #[param(minimum = 0, maximum = 90, default = 90)]
    seconds: Option<u32>,
}

/// What goes on now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Stats {
    /// Events accepted in the last minute.
    accepted_last_minute: Counted,
    /// What became of the newest 500 events of the last hour; of each, ten deliveries at most are looked at.
    recent: Recent,
    /// Deliveries that wait, of the newest 1 000 endpoints.
    pending: Waiting,
    /// The endpoints.
    endpoints: EndpointStats,
    /// Tenants whose own rate limit has refused requests in the last minute, on any replica, the most often refused first, 20 at
    /// the most. What another replica has refused is here about a second later. It is missing if it was refused before this one
    /// started, or while they could not hear each other.
    rate_limited_tenants: Vec<RateLimitedTenant>,
    /// What went on in the time that was asked for; null when none was.
    history: Option<History>,
}

/// A number of things.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Counted {
    /// How many there are; 10 000 when there are more.
    total: i64,
    /// Whether there are more than 10 000.
    capped: bool,
}

impl Counted {
    fn new(counted: i64) -> Self {
        Self {
            total: counted.min(MAX_COUNTED),
            capped: counted > MAX_COUNTED,
        }
    }
}

/// What became of the newest events.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Recent {
    /// How many events were looked at.
    events: i64,
    /// How many deliveries of them.
    deliveries: i64,
    /// How many of these are delivered.
    delivered: i64,
    /// How many of these get no further attempt.
    dead: i64,
    /// From acceptance to delivery; null when none is delivered.
    latency_ms: Option<Latency>,
}

/// How long deliveries took, in milliseconds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Latency {
    /// Half of them took no longer.
    p50: f64,
    /// 95 of 100 took no longer.
    p95: f64,
    /// 99 of 100 took no longer.
    p99: f64,
}

impl From<RecentRow> for Recent {
    fn from(row: RecentRow) -> Self {
        let latency = row.latency.as_deref();
        Self {
            events: row.events,
            deliveries: row.deliveries,
            delivered: row.delivered,
            dead: row.dead,
            latency_ms: match latency {
                Some(&[p50, p95, p99]) => Some(Latency { p50, p95, p99 }),
                _ => None,
            },
        }
    }
}

/// What waits.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Waiting {
    #[serde(flatten)]
    deliveries: Counted,
    /// How long the oldest delivery that could be sent has been due; null when none is. Those of ordered endpoints and those
    /// that are fetched do not count.
    oldest_due_seconds: Option<f64>,
}

impl From<WaitingRow> for Waiting {
    fn from(row: WaitingRow) -> Self {
        Self {
            deliveries: Counted::new(row.pending),
            oldest_due_seconds: row.oldest_due_seconds,
        }
    }
}

/// The endpoints in numbers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EndpointStats {
    #[serde(flatten)]
    all: Counted,
    /// Enabled ones whose last delivery failed.
    failing: i64,
    /// Disabled ones.
    disabled: i64,
    /// The newest 20 that fail or are disabled.
    troubled: Vec<TroubledEndpoint>,
}

/// A tenant whose own rate limit refuses requests.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct RateLimitedTenant {
    /// Its id.
    tenant: String,
    /// Requests, and events of batches, that were refused in the last minute.
    refused_last_minute: u64,
}

/// An endpoint that fails or is disabled.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TroubledEndpoint {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: EndpointId,
    /// Where deliveries are sent; null when they are fetched.
    url: Option<String>,
    /// Whether it gets deliveries.
    status: EndpointStatus,
    /// Why it is disabled.
    disabled_reason: Option<String>,
    /// When the first failure since its last success was.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    failing_since: Option<OffsetDateTime>,
}

impl From<TroubledRow> for TroubledEndpoint {
    fn from(row: TroubledRow) -> Self {
        Self {
            id: row.id,
            url: row.url,
            status: row.status,
            disabled_reason: row.disabled_reason,
            failing_since: row.failing_since,
        }
    }
}

impl From<(String, u64)> for RateLimitedTenant {
    fn from((tenant, refused_last_minute): (String, u64)) -> Self {
        Self {
            tenant,
            refused_last_minute,
        }
    }
}

/// Shows what goes on now. It costs the same however many events there are, and figures beyond what it looks at say so.
///
/// With `Accept: text/event-stream` the figures come every five seconds as the server-sent event `stats`, its `history` every
/// minute. `unavailable` says that they could not be read this time.
#[utoipa::path(
    get,
    path = "/v1/stats",
    operation_id = "show_stats",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(StatsParams),
    responses(
        (status = 200, description = "The figures.", content((Stats = "application/json"), (LiveEvent = "text/event-stream"))),
        KeyRefusals, ListRefusals,
        (status = 503, description = "As many listen as may, 20 of an organisation and 5 of a tenant on each replica, or the database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<StatsParams>,
    Manager { realm, admitted }: Manager,
) -> Result<Response, ApiError> {
    let period = params.period;
    let going = Going::new(admitted, params.seconds, app.tails.stop().clone())?;
    if !wants_events(&headers) {
        return Ok(Json(read(&app, &realm, period).await?).into_response());
    }
    let seat = app.tails.sit(&realm).ok_or(CROWDED)?;
    let watching = Watching::new(app, realm, period, going, seat);
    Ok(answer(watching.pieces()))
}

/// Whether a client asks for server-sent events, as browsers' `EventSource` does.
fn wants_events(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    accepted.is_some_and(|accepted| accepted.contains(EVENT_STREAM))
}

/// Reads the figures.
///
/// # Errors
/// When Postgres does not answer.
async fn read(app: &App, realm: &Realm, period: Option<Period>) -> Result<Stats, ApiError> {
    let accepted = app.store.count_accepted(realm).await?;
    let recent = app.store.recent_deliveries(realm).await?;
    let waiting = app.store.waiting_deliveries(realm).await?;
    let EndpointCounts {
        total,
        failing,
        disabled,
    } = app.store.count_endpoints(realm).await?;
    let troubled = app.store.troubled_endpoints(realm).await?;
    let refused = app.tenant_limits.refusals.most(realm, REFUSED_TENANTS);
    let history = match period {
        Some(period) => Some(history::read(app, realm, period).await?),
        None => None,
    };
    Ok(Stats {
        accepted_last_minute: Counted::new(accepted),
        recent: recent.into(),
        pending: waiting.into(),
        endpoints: EndpointStats {
            all: Counted::new(total),
            failing,
            disabled,
            troubled: troubled.into_iter().map(Into::into).collect(),
        },
        rate_limited_tenants: refused.into_iter().map(Into::into).collect(),
        history,
    })
}
