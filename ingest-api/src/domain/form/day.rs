//! Days, in UTC, as clients send and see them: `2026-11-23`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::Date;
use time::format_description::StaticFormatDescription;
use time::macros::format_description;

const FORM: StaticFormatDescription = format_description!("[year]-[month]-[day]");

/// A day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Day(pub Date);

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let day = Date::parse(&text, FORM).ok().filter(|day| day.year() >= 0);
        day.map(Self)
            .ok_or_else(|| de::Error::custom("must be a day, such as 2026-11-23"))
    }
}

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_read_as_it_is_written_and_nothing_else_is_one() {
        for text in ["2026-11-23", "0000-01-01", "9999-12-31"] {
            let day: Day = serde_json::from_value(text.into()).unwrap();
            assert_eq!(serde_json::to_value(day).unwrap(), text);
        }
        for text in [
            "2026-11-31",
            "2026-11",
            "-001-01-01",
            "2026-11-23T00:00:00Z",
            "today",
            "",
        ] {
            assert!(serde_json::from_value::<Day>(text.into()).is_err(), "{text}");
        }
    }
}
