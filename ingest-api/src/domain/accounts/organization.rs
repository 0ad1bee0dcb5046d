//! Organisations, as the operator makes, changes and sees them.

use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};
use shared::domain::id::OrgId;
use shared::domain::tier::Tier;
use time::OffsetDateTime;
use utoipa::ToSchema;

use crate::domain::accounts::quota::QuotaAction;
use crate::domain::form::field::{self, Field};
use crate::domain::form::whole;

/// A new organisation.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewOrganization {
    /// Its name, 1 to 200 characters.
    #[schema(min_length = 1, max_length = 200)]
    pub name: String,
    /// Its tier.
    #[serde(default)]
    pub tier: Tier,
    /// Overrides the tier's limit.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub rate_limit_per_minute: Option<NonZeroU32>,
    /// Days after which payloads are removed. Unless given, payloads are kept as long as events.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 3650)]
    pub payload_retention_days: Option<u32>,
    /// Its quota of events a month; none unless given.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub events_per_month: Option<u64>,
    /// What becomes of the events beyond the quota.
    #[serde(default)]
    pub quota_action: QuotaAction,
}

/// A change of an organisation. A field that is left out stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OrganizationChange {
    /// Its name, 1 to 200 characters.
    #[serde(default, deserialize_with = "field::required")]
    #[schema(value_type = String, required = false, min_length = 1, max_length = 200)]
    pub name: Option<String>,
    /// Its tier.
    #[serde(default, deserialize_with = "field::required")]
    #[schema(value_type = Tier, required = false)]
    pub tier: Option<Tier>,
    /// Overrides the tier's limit; null lets the tier's limit hold again.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<u32>, minimum = 1)]
    pub rate_limit_per_minute: Field<NonZeroU32>,
    /// Days after which payloads are removed; null keeps them as long as events are kept.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 3650)]
    pub payload_retention_days: Field<u32>,
    /// Its quota of events a month; null removes it.
    #[serde(default, deserialize_with = "whole::read")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_000_000_000_000_u64)]
    pub events_per_month: Field<u64>,
    /// What becomes of the events beyond the quota; null is `warn`.
    #[serde(default)]
    #[schema(value_type = Option<QuotaAction>)]
    pub quota_action: Field<QuotaAction>,
}

/// An organisation, as the operator sees it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Organization {
    /// Its id.
    #[schema(value_type = String, format = Uuid)]
    pub id: OrgId,
    /// Its name.
    pub name: String,
    /// Its tier.
    pub tier: Tier,
    /// Its own limit, when it has one.
    pub rate_limit_per_minute: Option<u32>,
    /// Days after which payloads are removed; null when they are kept as long as events are.
    pub payload_retention_days: Option<u32>,
    /// Its quota of events a month, when it has one.
    pub events_per_month: Option<u64>,
    /// What becomes of the events beyond the quota.
    pub quota_action: QuotaAction,
    /// When it was made.
    #[serde(serialize_with = "shared::domain::clock::timestamp")]
    pub created_at: OffsetDateTime,
    /// Since when it is being deleted.
    #[serde(
        serialize_with = "shared::domain::clock::optional_timestamp",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(required = false)]
    pub deleting_since: Option<OffsetDateTime>,
    /// Its events that are still to be removed, while it is being deleted and one organisation is shown: 10 000 stands for
    /// that many or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    pub events_left: Option<i64>,
}
