//! A delivery as consumers get it.

use serde::Serialize;
use shared::domain::endpoint::Format;
use shared::domain::id::{EventId, LeaseToken, OrgId};
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::lease::Lease;
use crate::http::error::ApiError;
use crate::routes::events::view::{PulledCloudEvent, PulledEvent};
use crate::store::PulledRow;

/// A leased delivery.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PulledDelivery {
    /// The event's id in Penstock, which a CloudEvent of a producer does not tell.
    #[schema(value_type = String, format = Uuid)]
    event_id: EventId,
    /// The event, in the endpoint's `format`.
    event: PulledForm,
    /// The token that `POST /v1/endpoints/{id}/ack`, `nack` and `extend` take.
    lease: String,
    /// When the lease ends and others may lease the delivery.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    lease_expires_at: OffsetDateTime,
    /// The number of this attempt, from 1. Each lease that ran out or was given back was an attempt.
    attempt: i32,
}

/// An event in one of the formats.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum PulledForm {
    Standard(Box<PulledEvent>),
    CloudEvents(Box<PulledCloudEvent>),
}

impl PulledDelivery {
    /// A delivery of an organisation that is leased under a token.
    ///
    /// # Errors
    /// When what is stored cannot be shown.
    pub(super) fn new(
        org_id: OrgId,
        format: Format,
        row: PulledRow,
        token: LeaseToken,
    ) -> Result<Self, ApiError> {
        let lease = Lease {
            event_id: row.event_id,
            accepted_at: row.accepted_at,
            token,
        };
        Ok(Self {
            event_id: row.event_id,
            lease: lease.encode(),
            lease_expires_at: row.lease_expires_at,
            attempt: row.attempts + 1,
            event: match format {
                Format::Standard => PulledForm::Standard(Box::new(PulledEvent::new(row)?)),
                Format::CloudEvents => PulledForm::CloudEvents(Box::new(PulledCloudEvent::new(org_id, row)?)),
                Format::Raw => {
                    let error =
                        anyhow::anyhow!("a pull endpoint has the format `raw`, which is one of webhooks");
                    return Err(ApiError::Internal(error));
                }
            },
        })
    }
}
