//! Deliveries and attempts of an event, as its owner sees them.

use serde::Serialize;
use shared::domain::delivery::{DeliveryStatus, Outcome};
use shared::domain::id::EndpointId;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::store::{AttemptRow, DeliveryRow};

/// A delivery of an event to an endpoint.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryView {
    /// The endpoint.
    #[schema(value_type = String, format = Uuid)]
    endpoint_id: EndpointId,
    /// `pending`, `delivered` or `dead`.
    status: DeliveryStatus,
    /// How many attempts have ended.
    attempts: i32,
    /// How the last attempt ended, or why the delivery ended without one.
    last_outcome: Option<Outcome>,
    /// When the next attempt begins; null when there is none, or one is in progress.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    next_attempt_at: Option<OffsetDateTime>,
    /// When it was delivered or given up.
    #[serde(serialize_with = "shared::domain::clock::optional_timestamp")]
    finished_at: Option<OffsetDateTime>,
    /// The newest attempts in order, 100 at the most, and fewer where an event has more than ten deliveries; only when
    /// one event is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    attempt_log: Option<Vec<AttemptView>>,
    /// How many attempts are recorded; only when one event is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    attempts_recorded: Option<i64>,
}

/// One attempt.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AttemptView {
    /// From 1.
    number: i32,
    /// When it began.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    started_at: OffsetDateTime,
    /// How long it took, in milliseconds.
    duration_ms: i32,
    /// How it ended.
    outcome: Outcome,
    /// The receiver's HTTP status.
    response_status: Option<i16>,
    /// The first 4 KiB of the receiver's answer; bytes that are not UTF-8 are replaced.
    response_body: Option<String>,
    /// What went wrong before there was an answer.
    error: Option<String>,
}

impl From<AttemptRow> for AttemptView {
    fn from(row: AttemptRow) -> Self {
        Self {
            number: row.number,
            started_at: row.started_at,
            duration_ms: row.duration_ms,
            outcome: row.outcome,
            response_status: row.response_status,
            response_body: row
                .response_body
                .map(|body| String::from_utf8_lossy(&body).into_owned()),
            error: row.error,
        }
    }
}

/// The shown deliveries of an event, while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Deliveries {
    pub(super) shown: Vec<DeliveryView>,
    pub(super) total: i64,
}

impl Deliveries {
    /// Adds the next delivery, with its attempts when they are shown.
    pub(crate) fn add(&mut self, row: DeliveryRow, attempts: Option<Attempts>) {
        let (log, recorded) = attempts.map(|attempts| (attempts.shown, attempts.total)).unzip();
        self.total = row.of_event;
        self.shown.push(DeliveryView {
            endpoint_id: row.endpoint_id,
            status: row.status,
            attempts: row.attempts,
            last_outcome: row.last_outcome,
            next_attempt_at: row.next_attempt_at,
            finished_at: row.finished_at,
            attempt_log: log,
            attempts_recorded: recorded,
        });
    }
}

/// The shown attempts of a delivery, while they are collected.
#[derive(Debug, Default)]
pub(crate) struct Attempts {
    shown: Vec<AttemptView>,
    total: i64,
}

impl Attempts {
    /// Adds the next attempt.
    pub(crate) fn add(&mut self, row: AttemptRow) {
        self.total = row.of_delivery;
        self.shown.push(row.into());
    }
}
