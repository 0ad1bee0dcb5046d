//! `GET /v1/events` and `GET /v1/events/{id}`: stored events and their deliveries.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use shared::domain::delivery::DeliveryStatus;
use shared::domain::id::{EndpointId, EventId};
use shared::domain::name::Tenant;
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::domain::access::realm::Realm;
use crate::domain::form::utc::UtcTime;
use crate::event::ids_of_key;
use crate::http::admission::callers::Manager;
use crate::http::answers::large_json::LargeJson;
use crate::http::error::ApiError;
use crate::http::request::extract::{Params, PathId};
use crate::routes::events::delivery_view::{Attempts, Deliveries};
use crate::routes::events::view::EventView;
use crate::routes::openapi::refusals::{KeyRefusals, ListRefusals, NoEvent};
use crate::routes::page::{ThisPage, page};
use crate::store::{EventFilter, EventRow};

/// Most deliveries of each event of a page.
const MAX_LISTED_DELIVERIES: i64 = 100;

/// Most deliveries of an event that is shown alone.
const MAX_SHOWN_DELIVERIES: i64 = 1_000;

/// Most attempts of an event that is shown alone; each may hold 4 KiB of what a receiver answered.
const MAX_ATTEMPTS: i64 = 1_000;

/// Most attempts of one delivery of it.
const MAX_ATTEMPTS_OF_EACH: i64 = 100;

/// Most events with one idempotency key. Together they have no more than 4 MiB of payloads.
const MAX_OF_KEY: i64 = 16;

/// Longest idempotency key that is looked for, in bytes.
const MAX_KEY_BYTES: usize = 4_096;

/// Which events to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct ListParams {
    /// Only events of this type.
    #[serde(rename = "type")]
    event_type: Option<String>,
    /// Only events accepted at this time or later (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    from: Option<UtcTime>,
    /// Only events accepted before this time (RFC 3339).
    #[param(value_type = Option<String>, format = DateTime)]
    to: Option<UtcTime>,
    /// Only events of this tenant.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    tenant: Option<Tenant>,
    /// Only events with a delivery in this status.
    #[param(inline)]
    status: Option<DeliveryStatus>,
    /// Only events with a delivery to this endpoint.
    #[param(value_type = Option<String>, format = Uuid)]
    endpoint: Option<EndpointId>,
    /// Only the newest 16 events with this idempotency key, of the organisation's own or of `tenant`; of CloudEvents, with
    /// this JSON array of `source` and `id`. Beside it stands no other parameter than `tenant` and `limit`.
    #[param(min_length = 1, max_length = 4_096)]
    idempotency_key: Option<String>,
    /// `next_cursor` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]{32}$")]
    cursor: Option<String>,
    /// Most events on the page.
    #[param(minimum = 1, maximum = 100, default = 50)]
    limit: Option<i64>,
}

impl ListParams {
    /// The key to look for.
    fn key(&self) -> Result<Option<&str>, ApiError> {
        let Some(key) = self.idempotency_key.as_deref() else {
            return Ok(None);
        };
        if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
            let detail = format!("must have 1 to {MAX_KEY_BYTES} bytes");
            return Err(ApiError::invalid("idempotency_key", detail));
        }
        let others = [
            ("type", self.event_type.is_some()),
            ("from", self.from.is_some()),
            ("to", self.to.is_some()),
            ("status", self.status.is_some()),
            ("endpoint", self.endpoint.is_some()),
            ("cursor", self.cursor.is_some()),
        ];
        match others.iter().find(|(_, is_there)| *is_there) {
            Some((name, _)) => Err(ApiError::invalid(name, "must not stand beside `idempotency_key`")),
            None => Ok(Some(key)),
        }
    }

    fn filter(&self, realm: &Realm) -> Result<EventFilter<'_>, ApiError> {
        if self
            .event_type
            .as_deref()
            .is_some_and(|event_type| event_type.contains('\0'))
        {
            return Err(ApiError::invalid("type", "must not contain NUL"));
        }
        let page = page(self.cursor.as_deref(), self.limit)?;
        Ok(EventFilter {
            realm: realm.narrowed(self.tenant.clone())?,
            event_type: self.event_type.as_deref(),
            from: self.from.map(|from| from.0),
            to: self.to.map(|to| to.0),
            status: self.status,
            endpoint_id: self.endpoint,
            seen_of: realm.tenant.clone(),
            after: page.after,
            limit: page.limit,
        })
    }
}

/// A page of events, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct EventPage {
    /// The events.
    data: Vec<EventView>,
    /// Where the next page begins; null on the last one.
    next_cursor: Option<String>,
}

/// Lists events, newest first. An event appears when a worker has stored it, usually milliseconds after its 202.
///
/// A page may hold fewer events than `limit` when their payloads are large. A request that filters by `type`, `status`
/// or `endpoint` looks at 10 000 events at most: its page may hold fewer events, or none, and still have a next page.
#[utoipa::path(
    get,
    path = "/v1/events",
    operation_id = "list_events",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(ListParams),
    responses(
        (status = 200, description = "A page of events.", body = EventPage, headers(("link" = String, description = "The next page, `rel=\"next\"`; absent on the last one."))),
        KeyRefusals, ListRefusals,
    ),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    this_page: ThisPage,
    Params(params): Params<ListParams>,
    Manager { realm, .. }: Manager,
) -> Result<(HeaderMap, LargeJson), ApiError> {
    let filter = params.filter(&realm)?;
    let key = params.key()?;
    let share = app.answers.reserve().await?;
    let (events, next) = match key {
        Some(key) => (with_key(&app, &filter, key).await?, None),
        None => app.store.list_events(&filter).await?,
    };
    let rows = app.store.list_deliveries(&realm, &events, MAX_LISTED_DELIVERIES);
    let mut deliveries: HashMap<_, Deliveries> = HashMap::new();
    for row in rows.await? {
        deliveries
            .entry((row.event_id, row.accepted_at))
            .or_default()
            .add(row, None);
    }
    let next_cursor = next.map(|cursor| cursor.encode());
    let data = events.into_iter().map(|event| {
        let deliveries = deliveries
            .remove(&(event.id, event.accepted_at))
            .unwrap_or_default();
        EventView::new(event, deliveries)
    });
    let data = data.collect::<Result<_, _>>()?;
    let links = this_page.links(next_cursor.as_deref());
    Ok((links, LargeJson::new(EventPage { data, next_cursor }, share)?))
}

/// The newest events with an idempotency key. Their ids are derived from it.
async fn with_key(app: &App, filter: &EventFilter<'_>, key: &str) -> Result<Vec<EventRow>, ApiError> {
    let realm = &filter.realm;
    let ids = ids_of_key(realm.org_id, realm.tenant(), key);
    let limit = filter.limit.min(MAX_OF_KEY);
    Ok(app.store.list_events_of_key(realm, &ids, limit).await?)
}

/// Shows an event with its deliveries and their attempts.
#[utoipa::path(
    get,
    path = "/v1/events/{id}",
    operation_id = "show_event",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(("id" = String, Path, format = Uuid, description = "The id that the 202 carried.")),
    responses(
        (status = 200, description = "The event.", body = EventView),
        KeyRefusals, NoEvent,
    ),
)]
pub(crate) async fn show(
    State(app): State<Arc<App>>,
    PathId(id): PathId<EventId>,
    Manager { realm, .. }: Manager,
) -> Result<LargeJson, ApiError> {
    let share = app.answers.reserve().await?;
    let event = app
        .store
        .find_event(&realm, id)
        .await?
        .ok_or(ApiError::NotFound)?;
    let rows = app
        .store
        .list_deliveries(&realm, std::slice::from_ref(&event), MAX_SHOWN_DELIVERIES)
        .await?;
    let each = attempts_of_each(rows.len());
    let mut attempts: HashMap<_, Attempts> = HashMap::new();
    for row in app.store.list_attempts(realm.org_id, &event, &rows, each).await? {
        attempts.entry(row.endpoint_id).or_default().add(row);
    }
    let mut deliveries = Deliveries::default();
    for row in rows {
        let attempts = attempts.remove(&row.endpoint_id).unwrap_or_default();
        deliveries.add(row, Some(attempts));
    }
    LargeJson::new(EventView::new(event, deliveries)?, share)
}

/// How many attempts are shown of each of `deliveries` deliveries.
fn attempts_of_each(deliveries: usize) -> i64 {
    let deliveries = i64::try_from(deliveries).unwrap_or(i64::MAX).max(1);
    (MAX_ATTEMPTS / deliveries).clamp(1, MAX_ATTEMPTS_OF_EACH)
}
