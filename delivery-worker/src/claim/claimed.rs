//! What a claim has taken.

use std::sync::Arc;
use std::time::Duration;

use shared::domain::id::{EndpointId, EventId, LeaseToken, OrgId};
use time::OffsetDateTime;

use crate::endpoints::endpoint::Endpoint;
use crate::send::body::{Bodies, Outgoing};
use crate::send::job::Job;

/// A delivery that this worker has leased, with its event.
pub(super) struct Claimed {
    pub(super) event_id: EventId,
    pub(super) endpoint_id: EndpointId,
    pub(super) org_id: OrgId,
    pub(super) accepted_at: OffsetDateTime,
    /// Attempts since it was last made pending by a person, or since it was stored.
    pub(super) attempts: i32,
    /// Time since then.
    pub(super) age_seconds: f64,
    pub(super) ordered: bool,
    pub(super) lease_token: LeaseToken,
    pub(super) event_type: String,
    pub(super) content_type: String,
    pub(super) traceparent: Option<String>,
    pub(super) cloudevent: Option<String>,
    pub(super) ordering_key: Option<String>,
    pub(super) tenant: Option<String>,
    pub(super) data: Vec<u8>,
}

impl Claimed {
    /// The job that sends it.
    pub(super) fn into_job(self, endpoint: Arc<Endpoint>) -> Job {
        let event = Outgoing {
            id: self.event_id,
            org_id: self.org_id,
            event_type: self.event_type,
            accepted_at: self.accepted_at.into(),
            content_type: self.content_type,
            traceparent: self.traceparent,
            cloudevent: self.cloudevent,
            ordering_key: self.ordering_key,
            tenant: self.tenant,
            data: self.data,
            bodies: Bodies::default(),
        };
        Job {
            event: Arc::new(event),
            endpoint,
            attempt: u32::try_from(self.attempts).unwrap_or(0) + 1,
            age: Duration::try_from_secs_f64(self.age_seconds).unwrap_or_default(),
            ordered: self.ordered,
            lease: self.lease_token,
        }
    }
}
