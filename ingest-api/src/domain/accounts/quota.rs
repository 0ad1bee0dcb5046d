//! Quotas: how many events an organisation, or one of its tenants, may send in a month.

use std::ops::RangeInclusive;

use shared::words;

use crate::domain::form::field_errors::check_range;

/// Events a month that a quota may allow.
const EVENTS_PER_MONTH: RangeInclusive<u64> = 1..=1_000_000_000_000;

words! {
    /// What becomes of the events beyond a quota.
    #[derive(Default)]
    pub(crate) enum QuotaAction("quota action") {
        /// They are accepted.
        #[default]
        Warn = "warn",
        /// They are refused until the month is over.
        Refuse = "refuse",
    }
}

/// Checks how many events a quota allows.
///
/// # Errors
/// The text names what is allowed.
pub(crate) fn check_events_per_month(events: Option<u64>) -> Result<(), String> {
    events.map_or(Ok(()), |events| check_range(&events, &EVENTS_PER_MONTH))
}
