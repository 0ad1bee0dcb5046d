//! Notices (operational events): what Penstock tells an organisation about its endpoints and quotas. A notice is written in the same
//! statement as the change that it reports. From there it is stored as an ordinary event, under its own id and dated by
//! Postgres's clock: exactly once, whichever worker stores it and however often.

use std::time::Duration;

use shared::domain::clock::UnixMicros;
use shared::domain::event::Event;
use shared::domain::id::{EndpointId, EventId, OrgId};
use sqlx::PgPool;
use time::OffsetDateTime;

use crate::endpoints::directory::{Directory, Snapshot};
use crate::endpoints::permits::Permits;
use crate::slices::Slices;
use crate::store::events::{self, NewDelivery, Stored};

/// Pause between two looks for notices.
pub(crate) const INTERVAL: Duration = Duration::from_millis(500);

/// Most notices in one statement.
const MAX_BATCH: i64 = 200;

/// A notice as it was written.
struct Notice {
    /// Dated by the clock of the worker that wrote it.
    id: EventId,
    created_at: OffsetDateTime,
    org_id: OrgId,
    kind: String,
    /// What it is about; one that is none when it is about no endpoint.
    endpoint_id: EndpointId,
    /// Its own, or the endpoint's.
    tenant: Option<String>,
    data: String,
}

/// Stores notices as events, and removes them. Says whether there were any.
///
/// # Errors
/// When Postgres does not answer; what was stored then is stored again later, which changes nothing.
pub(crate) async fn store(
    pool: &PgPool,
    directory: &Directory,
    permits: &Permits,
) -> Result<bool, sqlx::Error> {
    let notices = sqlx::query_as!(
        Notice,
        r#"select o.id as "id: EventId", o.created_at, o.org_id as "org_id: OrgId", o.type as kind,
                  o.endpoint_id as "endpoint_id: EndpointId", coalesce(o.tenant, e.tenant) as tenant, o.data
           from operational_events o left join endpoints e on e.id = o.endpoint_id and e.org_id = o.org_id
           order by o.id limit $1"#,
        MAX_BATCH,
    )
    .fetch_all(pool)
    .await?;
    if notices.is_empty() {
        return Ok(false);
    }
    loop {
        // The statement below asks for news of the events' owners only, and an owner of whom nobody knows an endpoint has none.
        let endpoints = directory.refresh().await?;
        let (events, deliveries) = fan_out(&endpoints, &notices).await;
        let events: Vec<_> = events.iter().collect();
        let written: Vec<_> = deliveries.iter().collect();
        let mut connection = pool.acquire().await?;
        match events::store(&mut connection, endpoints.version, &events, &written).await? {
            Stored::New(_) => {
                for delivery in &deliveries {
                    permits.note_due(delivery.endpoint_id, Duration::ZERO);
                }
                break;
            }
            Stored::Stale => {}
        }
    }
    sqlx::query!(
        "delete from operational_events where id = any($1)",
        &notices
            .iter()
            .map(|notice| notice.id.as_uuid())
            .collect::<Vec<_>>(),
    )
    .execute(pool)
    .await?;
    permits.wake_claimer();
    Ok(true)
}

/// The events that an endpoint wants, with their deliveries.
async fn fan_out<'a>(endpoints: &Snapshot, notices: &'a [Notice]) -> (Vec<Event<'a>>, Vec<NewDelivery<'a>>) {
    let (mut events, mut deliveries) = (Vec::new(), Vec::new());
    let mut slices = Slices::new();
    for notice in notices {
        let event = notice.event();
        let takers = endpoints.takers(&event, &mut slices).await;
        let takers = takers
            .into_iter()
            .filter(|taker| taker.subscriber.endpoint_id != notice.endpoint_id);
        let before = deliveries.len();
        deliveries.extend(takers.map(|taker| NewDelivery::of(events.len(), taker)));
        if deliveries.len() > before {
            events.push(event);
        }
    }
    (events, deliveries)
}

impl Notice {
    fn event(&self) -> Event<'_> {
        let id = self.id.dated(self.created_at.into());
        // The id's own time, so that the event is found by its id.
        let millis = id.accepted_millis().unwrap_or(0);
        let accepted_at = UnixMicros::new(millis * 1_000);
        Event {
            tenant: self.tenant.as_deref(),
            ..Event::of_json(id, self.org_id, &self.kind, accepted_at, self.data.as_bytes())
        }
    }
}
