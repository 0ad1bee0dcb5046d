//! The story of one event in words, for operators: from its acceptance to what each of its deliveries waits for now.
//!
//! Which endpoints it goes to was decided when it was stored. What is said of endpoints without a delivery is what their
//! settings say now.

mod read;
mod reasons;
mod waits;

use std::fmt;

use serde::Serialize;
use sqlx::PgPool;
use utoipa::ToSchema;

use self::read::{AttemptRow, EndpointRow, EventRow};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::DeliveryStatus;
use crate::domain::filter::FilterError;
use crate::domain::id::{EndpointId, EventId, OrgId};

/// The story of an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct Explanation {
    /// The event.
    #[schema(value_type = String, format = Uuid)]
    pub event_id: EventId,
    /// Whose it is.
    #[schema(value_type = String, format = Uuid)]
    pub organization_id: OrgId,
    /// What became of it before its deliveries, a sentence each.
    pub story: Vec<String>,
    /// The endpoints of its organisation, those that it goes to first; 1 000 at the most.
    pub endpoints: Vec<EndpointStory>,
}

/// What an endpoint has to do with an event.
#[derive(Debug, Serialize, ToSchema)]
pub struct EndpointStory {
    /// The endpoint.
    #[schema(value_type = String, format = Uuid)]
    pub endpoint_id: EndpointId,
    /// Whether the event goes there.
    pub matches: bool,
    /// Why not; or each attempt, and what it waits for now; a sentence each.
    pub story: Vec<String>,
}

/// What is stored of an event.
#[derive(Debug)]
pub struct Facts {
    event_id: EventId,
    organization_id: OrgId,
    event: EventRow,
    /// How many events of this id are stored.
    stored: usize,
    endpoints: Vec<EndpointRow>,
    attempts: Vec<AttemptRow>,
}

/// Reads what is stored of an event, the newest where an id was used again. None when it is not stored.
///
/// # Errors
/// When Postgres does not answer, or holds what this build cannot read.
pub async fn find(pool: &PgPool, id: EventId) -> Result<Option<Facts>, sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let places = read::places(&mut connection, id).await?;
    let Some(place) = places.first() else {
        return Ok(None);
    };
    let Some(event) = read::event(&mut connection, place).await? else {
        return Ok(None);
    };
    Ok(Some(Facts {
        event_id: id,
        organization_id: place.org_id,
        event,
        stored: places.len(),
        endpoints: read::endpoints(&mut connection, place).await?,
        attempts: read::attempts(&mut connection, place).await?,
    }))
}

impl Facts {
    /// Tells the story. It may take long: every filter reads the payload.
    ///
    /// # Errors
    /// When a later release wrote the filter of an endpoint.
    pub fn explain(&self) -> Result<Explanation, FilterError> {
        let stories = self
            .endpoints
            .iter()
            .map(|endpoint| endpoint_story(&self.event, endpoint, &self.attempts));
        Ok(Explanation {
            event_id: self.event_id,
            organization_id: self.organization_id,
            story: event_story(&self.event, self.stored, &self.endpoints),
            endpoints: stories.collect::<Result<_, _>>()?,
        })
    }
}

fn event_story(event: &EventRow, stored: usize, endpoints: &[EndpointRow]) -> Vec<String> {
    let whose = match &event.tenant {
        Some(tenant) => format!(" of tenant `{tenant}`"),
        None => String::new(),
    };
    let mut story = vec![format!(
        "It was accepted at {}, as `{}`{whose}, with a key of organisation `{}`.",
        Timestamp(event.accepted_at),
        event.event_type,
        event.organization
    )];
    if let Some(key) = &event.idempotency_key {
        story.push(format!("Its id comes from the idempotency key `{key}`."));
    }
    if stored > 1 {
        story.push(format!(
            "The key was used {stored} times, a day and more apart: this is the newest event."
        ));
    }
    if let Some(traceparent) = &event.traceparent {
        story.push(format!("Its trace context is `{traceparent}`."));
    }
    story.push(format!(
        "A worker took it out of its stream and stored it at {}.",
        Timestamp(event.stored_at)
    ));
    if let Some(place) = endpoints.iter().find_map(EndpointRow::place) {
        story.push(place);
    }
    if let Some(at) = event.expunged_at {
        story.push(format!("Its payload was removed at {}.", Timestamp(at)));
    }
    let count = endpoints
        .iter()
        .filter(|endpoint| endpoint.status_of_delivery.is_some())
        .count();
    story.push(match count {
        0 => "It goes to no endpoint.".to_owned(),
        1 => "It goes to 1 endpoint.".to_owned(),
        count => format!("It goes to {count} endpoints."),
    });
    story
}

fn endpoint_story(
    event: &EventRow,
    endpoint: &EndpointRow,
    attempts: &[AttemptRow],
) -> Result<EndpointStory, FilterError> {
    let matches = endpoint.status_of_delivery.is_some();
    let story = match endpoint.status_of_delivery {
        None => vec![reasons::why_not(event, endpoint)?],
        Some(status) => {
            let own = attempts
                .iter()
                .filter(|attempt| attempt.endpoint_id == endpoint.id);
            let mut story: Vec<_> = own.map(attempt_story).collect();
            story.push(match status {
                DeliveryStatus::Pending => waits::what_for(endpoint),
                DeliveryStatus::Delivered => ended(endpoint, "It was delivered"),
                DeliveryStatus::Dead => ended(endpoint, "It was given up"),
            });
            story
        }
    };
    Ok(EndpointStory {
        endpoint_id: endpoint.id,
        matches,
        story,
    })
}

fn attempt_story(attempt: &AttemptRow) -> String {
    let status = attempt.response_status;
    let status = status
        .map(|status| format!(", status {status}"))
        .unwrap_or_default();
    let error = attempt.error.as_ref();
    let error = error.map(|error| format!(": {error}")).unwrap_or_default();
    format!(
        "Attempt {} at {} took {} ms: {}{status}{error}.",
        attempt.number,
        Timestamp(attempt.started_at),
        attempt.duration_ms,
        attempt.outcome.as_str()
    )
}

fn ended(endpoint: &EndpointRow, how: &str) -> String {
    let at = endpoint.finished_at;
    let at = at.map(|at| format!(" at {}", Timestamp(at))).unwrap_or_default();
    let why = endpoint
        .last_outcome
        .filter(|_| endpoint.status_of_delivery == Some(DeliveryStatus::Dead));
    let why = why
        .map(|why| format!(", because of `{}`", why.as_str()))
        .unwrap_or_default();
    let attempts = match endpoint.attempts.unwrap_or_default() {
        1 => "1 attempt".to_owned(),
        count => format!("{count} attempts"),
    };
    format!("{how}{at}, after {attempts}{why}.")
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "event {}", self.event_id)?;
        for line in &self.story {
            writeln!(f, "  {line}")?;
        }
        for endpoint in &self.endpoints {
            let verb = if endpoint.matches {
                "gets it"
            } else {
                "does not get it"
            };
            writeln!(f, "endpoint {} {verb}", endpoint.endpoint_id)?;
            for line in &endpoint.story {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}
