//! `GET /v1/tail`: events and attempts as they happen.

use std::sync::Arc;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Response;
use futures_util::stream::unfold;
use serde::Deserialize;
use shared::domain::delivery::DeliveryStatus;
use shared::domain::event_type::EventTypePattern;
use shared::domain::id::EndpointId;
use shared::domain::name::Tenant;
use utoipa::IntoParams;

use crate::app::App;
use crate::http::admission::callers::Manager;
use crate::http::answers::live::{CROWDED, Going, LiveEvent, answer, message};
use crate::http::error::{ApiError, Problem};
use crate::http::request::extract::Params;
use crate::routes::openapi::refusals::{KeyRefusals, ListRefusals};
use crate::tailing::Place;
use crate::tailing::item::{Item, told_skipped};
use crate::tailing::log::Read;

/// The header in which a client that comes back says what it heard last.
const LAST_EVENT_ID: &str = "last-event-id";

/// What to tell.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct TailParams {
    /// Only of events of this type; a prefix of types ends in `*`.
    #[serde(rename = "type")]
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    event_type: Option<EventTypePattern>,
    /// Only of events of this tenant, and of attempts at its endpoints.
    #[param(value_type = Option<String>, min_length = 1, max_length = 255)]
    tenant: Option<Tenant>,
    /// Only attempts at this endpoint.
    #[param(value_type = Option<String>, format = Uuid)]
    endpoint: Option<EndpointId>,
    /// Only attempts after which the delivery has this status.
    #[param(inline)]
    status: Option<DeliveryStatus>,
    /// How long the answer goes on. With 0 it holds only what came after `Last-Event-ID`.
    #[param(minimum = 0, maximum = 90, default = 90)]
    seconds: Option<u32>,
}

/// Tells of events and attempts as they happen, as server-sent events.
///
/// `event` is an event that a worker has stored, however long after its acceptance: `id`, `type`, `tenant` and `accepted_at`.
/// `attempt` is an attempt that has ended: `event_id`, `type`, `tenant`, `endpoint_id`, `number`, `outcome`, `response_status`,
/// `started_at`, `duration_ms` and the `status` of its delivery. Each is told once at the most, within about a second.
///
/// `skipped` says that others were not told, and how many at the most: `count`, which is null when that is not known. Of what was
/// stored after newer events it may come half a minute later. It counts those that the filters would leave out, too.
/// Attempts are told of the last 300 events that were told, ten deliveries of each, until none is pending, and for ten minutes.
/// When further attempts of such an event may follow that are not told, `skipped` with null says so. Attempts of events that were
/// not told are not counted.
///
/// The answer ends after 90 seconds. A client that sends the last `id` as `Last-Event-ID`, as browsers do, goes on where it was.
#[utoipa::path(
    get,
    path = "/v1/tail",
    operation_id = "tail",
    tag = "events",
    security(("api_key" = []), ("bearer" = [])),
    params(
        TailParams,
        ("Last-Event-ID" = Option<String>, Header, description = "The last `id` of an answer before."),
    ),
    responses(
        (status = 200, description = "What happens.", body = LiveEvent, content_type = "text/event-stream"),
        KeyRefusals, ListRefusals,
        (status = 503, description = "As many listen as may, 20 of an organisation and 5 of a tenant on each replica, or the database is not available.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn tail(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    Params(params): Params<TailParams>,
    Manager { realm, admitted }: Manager,
) -> Result<Response, ApiError> {
    let told = realm.narrowed(params.tenant.clone())?;
    let going = Going::new(admitted, params.seconds, app.tails.stop().clone())?;
    let place = app.tails.enter(&realm, &told).ok_or(CROWDED)?;
    let (next, is_known) = begin(&place, &headers);
    let mut first = format!("retry: 1000\nid: {}\n\n", id(&place, next));
    if !is_known {
        let (name, data) = told_skipped(None);
        first.push_str(&message(None, name, &data));
    }
    let mut listening = Listening {
        place,
        going,
        params,
        next,
        first: None,
    };
    first.push_str(&listening.take().0);
    listening.first = Some(first);
    let pieces = unfold(listening, |mut listening| async move {
        let piece = listening.piece().await?;
        Some((piece, listening))
    });
    Ok(answer(pieces))
}

/// The id of what comes before this number.
fn id(place: &Place, next: u64) -> String {
    format!("{:016x}-{next}", place.name())
}

/// The number to begin with, and whether nothing can have been missed before it.
fn begin(place: &Place, headers: &HeaderMap) -> (u64, bool) {
    let newest = place.next();
    let Some(last) = headers.get(LAST_EVENT_ID) else {
        return (newest, true);
    };
    let (name, next) = last
        .to_str()
        .ok()
        .and_then(|text| text.split_once('-'))
        .unwrap_or_default();
    let name = u64::from_str_radix(name, 16).ok();
    let next = next.parse::<u64>().ok().filter(|next| *next <= newest);
    match next {
        Some(next) if name == Some(place.name()) => (next, true),
        _ => (newest, false),
    }
}

/// One answer.
struct Listening {
    place: Place,
    going: Going,
    params: TailParams,
    /// The number of what comes next.
    next: u64,
    first: Option<String>,
}

impl Listening {
    /// The next piece of the answer; None at its end.
    async fn piece(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while self.going.goes_on().await {
            let (mut text, has_more) = self.take();
            if text.is_empty() && self.going.is_quiet() {
                // It has no data, so a client takes note of the id and tells nothing.
                text = format!("id: {}\n\n", id(&self.place, self.next));
            }
            if !text.is_empty() {
                self.going.note_sent();
                return Some(text);
            }
            if !has_more {
                tokio::select! {
                    () = self.place.more() => {}
                    () = self.going.pause() => {}
                }
            }
        }
        None
    }

    /// What came since the last time, as far as it is wanted, and whether there is more.
    fn take(&mut self) -> (String, bool) {
        let read = self.place.read(self.next);
        self.next = read.next;
        (self.told(&read), read.has_more)
    }

    fn told(&self, read: &Read) -> String {
        let mut text = String::new();
        if read.skipped > 0 {
            let (name, data) = told_skipped(read.is_counted.then_some(read.skipped));
            text.push_str(&message(None, name, &data));
        }
        let first = read.next - read.items.len() as u64;
        for (number, item) in (first + 1..).zip(&read.items) {
            if self.params.want(item) {
                let id = id(&self.place, number);
                text.push_str(&message(Some(&id), item.kind, &item.text));
            }
        }
        text
    }
}

impl TailParams {
    fn want(&self, item: &Item) -> bool {
        if item.is_skipped() {
            return true;
        }
        let is_type = self
            .event_type
            .as_ref()
            .is_none_or(|wanted| match wanted.prefix() {
                Some(prefix) => item.event_type.starts_with(prefix),
                None => *item.event_type == *wanted.as_str(),
            });
        is_type
            && (self.endpoint.is_none() || self.endpoint == item.endpoint_id)
            && (self.status.is_none() || self.status == item.status)
    }
}
