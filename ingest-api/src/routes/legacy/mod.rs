//! The Zapier Triggers API, an older system's, on top of this one: its clients keep working. Everything that only it
//! knows is here, in `store/legacy.rs` and in the migrations that name the inbox and `zapier`.
//!
//! - Its events are ordinary events: they go through the same stream to the same endpoints, and show under
//!   `/v1/events`. `dedup_id` is the idempotency key.
//! - A `dedup_id` that this replica has accepted within 24 hours is answered 409. Otherwise a repeat is answered 202
//!   with the id of the first, and is not stored or delivered again: no request asks the database, so a replica
//!   that has just started, or another one, cannot know.
//! - The header `Idempotency-Key` is that of `POST /v1/events`: without a `dedup_id`, a repeat is answered 202.
//! - The inbox holds all events of the organisation, newest first, in one of three statuses. `acknowledged`: by
//!   `POST /api/ack/{id}`. `delivered`: not acknowledged, but this API's webhook took it. `pending`: neither;
//!   `delivery_status` tells whether the webhook is still tried, was given up (`dead`), or was never there (null).
//!   Deliveries to other endpoints do not count here.
//! - An acknowledgement is a row of `inbox_acknowledgements`. It stops no delivery: one in progress cannot be stopped
//!   either.
//! - A page of the inbox holds up to 4 MiB of payloads. Of a status, a page looks at 10 000 events: it may be short,
//!   or empty, and have a `next_cursor` all the same.
//! - The webhook is an ordinary endpoint, one for each organisation: what it gets is signed and has the form of every
//!   webhook here. A new URL keeps its id, its secret and what waits for it.
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
