//! The Zapier Triggers API of an older system, on top of this one, so that its clients keep working. Its code is here,
//! in `store/legacy.rs`, in `event/recent_ids.rs` and in the migrations that name the inbox and `zapier`.
//!
//! - Its events are ordinary events: they go through the same stream to the same endpoints, and show under
//!   `/v1/events`. `dedup_id` is the idempotency key.
//! - A `dedup_id` that this replica has accepted within 24 hours is answered 409. No request asks the database, so
//!   another replica, or one that has just started, does not know the `dedup_id`. It answers 202 with the id of the
//!   first event, which is not stored or delivered again.
//! - The header `Idempotency-Key` works as on `POST /v1/events`: without a `dedup_id`, a repeat is answered 202.
//! - The inbox holds all events of the organisation, newest first, in one of three statuses. `acknowledged`: by
//!   `POST /api/ack/{id}`. `delivered`: not acknowledged, but this API's webhook took it. `pending`: neither;
//!   `delivery_status` tells whether the webhook is still tried, was given up (`dead`), or was never there (null).
//!   Deliveries to other endpoints do not count here.
//! - An acknowledgement is a row of `inbox_acknowledgements`. It stops no delivery: one in progress cannot be stopped
//!   either.
//! - A page of the inbox holds up to 4 MiB of payloads. A request for one status looks at 10 000 events: its page may
//!   be short, or empty, and still have a `next_cursor`.
//! - The webhook is an ordinary endpoint, one for each organisation: what it gets is signed and has the form of every
//!   webhook here. When it gets a new URL, it keeps its id, its secret and its pending deliveries.
//! - Errors are `{"error": …}`, with the statuses and headers that they have elsewhere.

mod errors;
pub(crate) mod keys;
pub(crate) mod events;
pub(crate) mod inbox;
pub(crate) mod webhook;

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

pub(crate) use self::errors::{LegacyError, rewrite};

/// Whether the process runs.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProcessHealth {
    /// `healthy`.
    status: &'static str,
}

/// Says that the process runs.
#[utoipa::path(
    get,
    path = "/health",
    operation_id = "zapier_health",
    tag = "zapier",
    responses((status = 200, description = "The process runs.", body = ProcessHealth)),
)]
pub(crate) async fn health() -> Json<ProcessHealth> {
    Json(ProcessHealth { status: "healthy" })
}
