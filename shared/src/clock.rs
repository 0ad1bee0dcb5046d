//! The wall clock, read in one place.

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

/// Microseconds since the Unix epoch: the precision of Postgres, so that a time survives the round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMicros(i64);

impl UnixMicros {
    /// The time now.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now() -> Self {
        let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos();
        Self(i64::try_from(nanos / 1_000).unwrap_or(i64::MAX))
    }

    /// From a count of microseconds since the epoch.
    pub fn new(micros: i64) -> Self {
        Self(micros)
    }

    /// Microseconds since the epoch.
    pub fn get(self) -> i64 {
        self.0
    }

    /// The same instant as a date. Instants outside the years 0 to 9999, which RFC 3339 cannot write, become the epoch.
    pub fn to_date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000)
            .ok()
            .filter(|date_time| date_time.year() >= 0)
            .unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl From<OffsetDateTime> for UnixMicros {
    fn from(date_time: OffsetDateTime) -> Self {
        Self(i64::try_from(date_time.unix_timestamp_nanos() / 1_000).unwrap_or(i64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::format_description::well_known::Rfc3339;

    use super::*;

    /// Of the years around 0 and around 9999, and any.
    fn micros() -> impl Strategy<Value = i64> {
        let around = |year: i64| {
            let middle = (year - 1970) * 31_556_952_000_000;
            middle - 60_000_000_000_000..middle + 60_000_000_000_000
        };
        prop_oneof![around(0), around(9_999), any::<i64>()]
    }

    proptest! {
        #[test]
        fn every_instant_is_a_date_that_rfc_3339_can_write(micros in micros()) {
            prop_assert!(UnixMicros::new(micros).to_date_time().format(&Rfc3339).is_ok());
        }
    }
}
