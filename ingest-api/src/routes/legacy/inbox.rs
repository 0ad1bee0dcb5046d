//! `GET /api/inbox` and `POST /api/ack/{id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EventId, OrgId};
use shared::domain::inbox::InboxStatus;
use time::OffsetDateTime;
use utoipa::{IntoParams, ToSchema};

use super::LegacyError;
use crate::app::App;
use crate::domain::cursor::Cursor;
use crate::http::admission::callers::OrganizationManager;
use crate::http::answers::large_json::LargeJson;
use crate::http::error::ApiError;
use crate::http::request::extract::{Params, PathId};
use crate::routes::events::view::payload;
use crate::routes::openapi::refusals::LegacyKeyRefusals;
use crate::store::{InboxFilter, InboxRow};

const LIMITS: std::ops::RangeInclusive<i64> = 1..=1_000;
const DEFAULT_LIMIT: i64 = 100;
const MAX_OFFSET: i64 = 10_000;

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct InboxParams {
    /// Most events on the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<i64>,
    /// Only events in this status.
    #[param(inline)]
    status: Option<InboxStatus>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
    /// How many events to leave out. A cursor is quicker, and misses nothing when new events arrive.
    #[param(minimum = 0, maximum = 10000, default = 0)]
    offset: Option<i64>,
}

impl InboxParams {
    fn filter(&self, org_id: OrgId) -> Result<InboxFilter, ApiError> {
        let wrong = |field: &str, detail: &str| ApiError::invalid(field, detail);
        let (limit, offset) = (self.limit.unwrap_or(DEFAULT_LIMIT), self.offset.unwrap_or(0));
        if !LIMITS.contains(&limit) {
            return Err(wrong("limit", "must be 1 to 1000"));
        }
        if !(0..=MAX_OFFSET).contains(&offset) {
            return Err(wrong("offset", "must be 0 to 10000; use `cursor` to go further"));
        }
        let before = match &self.cursor {
            None => Cursor::NEWEST,
            Some(text) => Cursor::decode(text).ok_or_else(|| wrong("cursor", "is not a `next_cursor`"))?,
        };
        Ok(InboxFilter {
            org_id,
            status: self.status,
            before,
            offset,
            limit,
        })
    }
}

/// A page of the inbox, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Inbox {
    /// The events.
    events: Vec<InboxEvent>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// An event in the inbox.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InboxEvent {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// Its type.
    r#type: String,
    /// Its type, under the other name.
    event_type: String,
    /// Its payload, byte for byte; a payload that is not JSON as a string of base64.
    #[schema(value_type = serde_json::Value)]
    payload: Box<RawValue>,
    /// As it was sent.
    dedup_id: Option<String>,
    /// When it was accepted.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    created_at: OffsetDateTime,
    /// `pending`, `delivered` or `acknowledged`.
    status: InboxStatus,
    /// The status of the delivery to the webhook: `pending`, `delivered` or `dead`; null when there was no webhook.
    delivery_status: Option<DeliveryStatus>,
    /// How often the webhook was tried.
    attempts: i32,
    /// The webhook's last HTTP status.
    response_status: Option<i16>,
    /// Why the last attempt failed; null when it did not.
    last_error: Option<String>,
}

impl InboxEvent {
    fn new(row: InboxRow) -> Result<Self, ApiError> {
        let payload = match payload(&row.content_type, row.data)? {
            (Some(json), _) => json,
            (None, base64) => {
                let text = format!("\"{}\"", base64.unwrap_or_default());
                RawValue::from_string(text).expect("base64 needs no escapes in a JSON string")
            }
        };
        Ok(Self {
            id: row.id,
            r#type: row.event_type.clone(),
            event_type: row.event_type,
            payload,
            dedup_id: row.idempotency_key,
            created_at: row.accepted_at,
            status: row.status,
            delivery_status: row.delivery_status,
            attempts: row.attempts.unwrap_or(0),
            response_status: row.response_status,
            last_error: row.last_error,
        })
    }
}

/// Lists the organisation's events, newest first. An event appears when a worker has stored it, usually milliseconds
/// after its 202.
#[utoipa::path(
    get,
    path = "/api/inbox",
    operation_id = "zapier_list_inbox",
    tag = "zapier",
    security(("api_key" = [])),
    params(InboxParams),
    responses(
        (status = 200, description = "A page of the inbox.", body = Inbox),
        LegacyKeyRefusals,
        (status = 422, description = "A parameter is wrong.", body = LegacyError),
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    Params(params): Params<InboxParams>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<LargeJson, ApiError> {
    let filter = params.filter(org_id)?;
    let share = app.answers.reserve().await?;
    let (rows, next) = app.store.list_inbox(&filter).await?;
    let events = rows.into_iter().map(InboxEvent::new);
    let inbox = Inbox {
        events: events.collect::<Result<_, _>>()?,
        next_cursor: next.as_ref().map(Cursor::encode),
    };
    LargeJson::new(inbox, share)
}

/// The answer to an acknowledgement.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InboxAcknowledged {
    /// True.
    success: bool,
    /// The event.
    #[schema(value_type = String, format = Uuid)]
    id: EventId,
    /// `acknowledged`.
    status: InboxStatus,
}

/// Acknowledges an event. Repeating it changes nothing.
#[utoipa::path(
    post,
    path = "/api/ack/{id}",
    operation_id = "zapier_acknowledge_event",
    tag = "zapier",
    security(("api_key" = [])),
    params(("id" = String, Path, format = Uuid, description = "The event.")),
    responses(
        (status = 200, description = "It is acknowledged.", body = InboxAcknowledged),
        LegacyKeyRefusals,
        (status = 404, description = "The organisation has no such event, or no worker has stored it yet.", body = LegacyError),
    ),
)]
pub(crate) async fn acknowledge(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EventId>,
    OrganizationManager { org_id, .. }: OrganizationManager,
) -> Result<Json<InboxAcknowledged>, ApiError> {
    if !app.store.acknowledge_in_inbox(org_id, id).await? {
        return Err(ApiError::NotFound);
    }
    Ok(Json(InboxAcknowledged {
        success: true,
        id,
        status: InboxStatus::Acknowledged,
    }))
}
