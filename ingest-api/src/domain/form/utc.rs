//! Times as clients send them, in any zone. They are stored and shown in UTC, so their year must be 0 to 9999 there.

use serde::{Deserialize, Deserializer, de};
use time::{OffsetDateTime, UtcOffset};

/// The years that RFC 3339 can write.
const YEARS: std::ops::RangeInclusive<i32> = 0..=9_999;

/// A time (RFC 3339) as a field of a request, in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UtcTime(pub OffsetDateTime);

impl<'de> Deserialize<'de> for UtcTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let given = time::serde::rfc3339::deserialize(deserializer)?;
        let utc = given.checked_to_offset(UtcOffset::UTC);
        utc.filter(|utc| YEARS.contains(&utc.year()))
            .map(Self)
            .ok_or_else(|| de::Error::custom("is not within the years 0 to 9999 of UTC"))
    }
}
