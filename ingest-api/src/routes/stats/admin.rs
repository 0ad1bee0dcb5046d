//! `GET /admin/v1/stats`: what goes on in the whole system.

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use time::OffsetDateTime;
use utoipa::ToSchema;
use uuid::Uuid;

use super::Counted;
use crate::app::App;
use crate::http::admission::callers::AdminReader;
use crate::http::error::ApiError;
use crate::publish::streams::Figures;
use crate::routes::openapi::refusals::AdminRefusals;
use crate::store::{BacklogRow, WorkerRow};

/// What goes on in the whole system.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AdminStats {
    /// Replicas of the API that hear each other.
    replicas: u32,
    /// Whether the replica that answers cannot hear the others; the number is that of before then.
    cut_off: bool,
    /// Workers that were seen in the last minute, the first one to start first; 1 000 at the most.
    workers: Vec<SeenWorker>,
    /// The event streams that this replica has measured in the last 20 seconds.
    streams: Vec<StreamStats>,
    /// Pending deliveries by what keeps them. Empty when they could not be counted lately.
    pending: Vec<PendingStats>,
    /// Endpoints whose last delivery failed.
    failing_endpoints: Counted,
}

/// A worker that runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SeenWorker {
    /// Its id, a new one at each start.
    id: Uuid,
    /// Its release.
    version: String,
    /// When it started.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    started_at: OffsetDateTime,
    /// When it last said that it runs. It does so every 15 seconds, and is not listed any more when it stops.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    last_seen_at: OffsetDateTime,
}

/// An event stream.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StreamStats {
    /// Its name.
    name: String,
    /// Frames that no worker has stored.
    frames: u64,
    /// Their bytes.
    bytes: u64,
    /// At how many bytes it is full, and events are answered 503; null is no limit.
    max_bytes: Option<u64>,
    /// How long the oldest frame has been there.
    oldest_frame_seconds: f64,
}

/// Pending deliveries that the same thing keeps.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PendingStats {
    /// What keeps them: `due` is nothing but the workers; `paced`, `circuit_open`, `held`, `waiting`, `ordered`, `pull`,
    /// `disabled`.
    state: String,
    #[serde(flatten)]
    deliveries: Counted,
    /// How long the oldest has been due; null when none is.
    oldest_due_seconds: Option<f64>,
}

impl StreamStats {
    fn new(name: String, figures: Figures) -> Self {
        Self {
            name,
            frames: figures.frames,
            bytes: figures.bytes,
            max_bytes: figures.max_bytes,
            oldest_frame_seconds: figures.oldest_frame_seconds,
        }
    }
}

impl From<WorkerRow> for SeenWorker {
    fn from(row: WorkerRow) -> Self {
        Self {
            id: row.id,
            version: row.version,
            started_at: row.started_at,
            last_seen_at: row.last_seen_at,
        }
    }
}

impl From<BacklogRow> for PendingStats {
    fn from(row: BacklogRow) -> Self {
        Self {
            state: row.state,
            deliveries: Counted::new(row.deliveries),
            oldest_due_seconds: row.due_seconds,
        }
    }
}

/// Shows what goes on in the whole system. It costs the same however much that is: what is shown was counted before, for the
/// metrics.
#[utoipa::path(
    get,
    path = "/admin/v1/stats",
    operation_id = "show_admin_stats",
    tag = "admin",
    security(("admin_token" = [])),
    responses((status = 200, description = "The figures.", body = AdminStats), AdminRefusals),
)]
pub(crate) async fn show(_: AdminReader, State(app): State<Arc<App>>) -> Result<Json<AdminStats>, ApiError> {
    let cluster = app.rate_limiter.cluster();
    let pending = app.store.read_backlog().await?;
    let failing = app.store.count_failing_endpoints().await?;
    let workers = app.store.seen_workers().await?;
    let streams = app.streams.lately(Instant::now()).into_iter();
    Ok(Json(AdminStats {
        replicas: cluster.replicas,
        cut_off: cluster.cut_off,
        workers: workers.into_iter().map(Into::into).collect(),
        streams: streams
            .map(|(name, figures)| StreamStats::new(name, figures))
            .collect(),
        pending: pending.into_iter().map(Into::into).collect(),
        failing_endpoints: Counted::new(failing),
    }))
}
