//! The wall clock, read in one place, and the one form in which times are written.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, UtcOffset};

/// Microseconds since the Unix epoch: the precision of Postgres, so that a time survives the round trip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMicros(i64);

impl UnixMicros {
    /// The time now. A clock that shows a time before the epoch shows the epoch here.
    #[expect(clippy::disallowed_methods, reason = "this is the clock")]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
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

/// A time as Penstock writes it: RFC 3339 in UTC with six digits of a second, also where these are zero. So the order of
/// such texts is the order of their times.
///
/// What is finer than a microsecond is cut off, as Postgres's times have no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timestamp(pub OffsetDateTime);

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A time next to the end of what can be held may have no form in UTC; it keeps its own.
        let utc = self.0.checked_to_offset(UtcOffset::UTC).unwrap_or(self.0);
        let (year, month, day) = utc.to_calendar_date();
        let (hour, minute, second, micros) = utc.to_hms_micro();
        let month = u8::from(month);
        write!(
            f,
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
        )
    }
}

/// Writes a field as a [`Timestamp`]: `#[serde(serialize_with = "shared::domain::clock::timestamp")]`.
///
/// # Errors
/// Those of the serializer.
pub fn timestamp<S: serde::Serializer>(time: &OffsetDateTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Timestamp(*time))
}

/// The same for a time that may be missing, which is null.
///
/// # Errors
/// Those of the serializer.
pub fn optional_timestamp<S: serde::Serializer>(
    time: &Option<OffsetDateTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => timestamp(time, serializer),
        None => serializer.serialize_none(),
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
            let date_time = UnixMicros::new(micros).to_date_time();
            let text = Timestamp(date_time).to_string();
            prop_assert_eq!(OffsetDateTime::parse(&text, &Rfc3339), Ok(date_time));
        }

        #[test]
        fn the_order_of_texts_is_the_order_of_times(
            a in micros(),
            apart in prop_oneof![0i64..3, Just(10), Just(1_000), Just(100_000), 0i64..2_000_000, any::<i64>()],
        ) {
            let [a, b] = [a, a.saturating_add(apart)].map(|micros| UnixMicros::new(micros).to_date_time());
            let texts = [a, b].map(|time| Timestamp(time).to_string());
            prop_assert_eq!(texts[0].cmp(&texts[1]), a.cmp(&b), "{:?}", texts);
        }
    }

    #[test]
    fn a_time_has_six_digits_of_a_second_in_utc() {
        let text = |text| Timestamp(OffsetDateTime::parse(text, &Rfc3339).unwrap()).to_string();
        assert_eq!(text("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05.000000Z");
        assert_eq!(
            text("2026-01-02T03:04:05.12+01:30"),
            "2026-01-02T01:34:05.120000Z"
        );
        assert_eq!(
            text("0000-01-02T03:04:05.1234569Z"),
            "0000-01-02T03:04:05.123456Z"
        );
    }
}
