//! The words for what an endpoint is.

use std::fmt;
use std::str::FromStr;

use crate::domain::word::UnknownWord;
use crate::words;

words! {
    /// How an endpoint's deliveries reach their owner.
    #[derive(Default)]
    pub enum EndpointKind("endpoint kind") {
        /// They are sent to its URL.
        #[default]
        Push = "push",
        /// Their owner fetches them.
        Pull = "pull",
    }
}

impl EndpointKind {
    /// Whether workers send its deliveries to a URL, so that it has the settings of requests. Otherwise they are fetched.
    pub const fn is_sent(self) -> bool {
        match self {
            Self::Push => true,
            Self::Pull => false,
        }
    }

    /// The kinds whose deliveries are fetched.
    pub fn fetched() -> Vec<Self> {
        Self::ALL.iter().copied().filter(|kind| !kind.is_sent()).collect()
    }
}

words! {
    /// Whether an endpoint gets deliveries.
    #[derive(Default)]
    pub enum EndpointStatus("endpoint status") {
        /// It gets deliveries.
        #[default]
        Enabled = "enabled",
        /// It gets no further events. Its pending deliveries stay in the table.
        Disabled = "disabled",
    }
}

words! {
    /// What the body of a webhook is, or a pulled event.
    #[derive(Default)]
    pub enum Format("webhook format") {
        /// `{"id", "type", "timestamp", "data"}`.
        #[default]
        Standard = "standard",
        /// A CloudEvent in structured mode.
        CloudEvents = "cloudevents",
        /// The payload as it is, with its own media type.
        Raw = "raw",
    }
}

words! {
    /// The method of a webhook's request.
    #[derive(Default)]
    pub enum WebhookMethod("webhook method") {
        /// `POST`.
        #[default]
        Post = "POST",
        /// `PUT`.
        Put = "PUT",
    }
}

/// What stands behind the format of an endpoint that needs a release which knows more than formats.
const MORE: &str = "/2";

/// A format as it is stored. Behind it stands whether the endpoint has settings that the first releases do not read (a method,
/// signatures): for these releases it is then an unknown format, and they stop rather than send something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredFormat {
    /// The form of the body.
    pub format: Format,
    /// Whether the endpoint has such settings.
    pub has_more: bool,
}

impl fmt::Display for StoredFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.has_more { MORE } else { "" };
        write!(f, "{}{more}", self.format)
    }
}

impl FromStr for StoredFormat {
    type Err = UnknownWord;

    fn from_str(text: &str) -> Result<Self, UnknownWord> {
        let plain = text.strip_suffix(MORE);
        let format = plain.unwrap_or(text).parse();
        let format = format.map_err(|error: UnknownWord| UnknownWord {
            name: text.to_owned(),
            ..error
        })?;
        Ok(Self {
            format,
            has_more: plain.is_some(),
        })
    }
}

impl sqlx::Type<sqlx::Postgres> for StoredFormat {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <str as sqlx::Type<sqlx::Postgres>>::type_info()
    }

    fn compatible(other: &sqlx::postgres::PgTypeInfo) -> bool {
        <str as sqlx::Type<sqlx::Postgres>>::compatible(other)
    }
}

impl<'r> sqlx::Decode<'r, sqlx::Postgres> for StoredFormat {
    fn decode(value: sqlx::postgres::PgValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(<&str as sqlx::Decode<'r, sqlx::Postgres>>::decode(value)?.parse()?)
    }
}

words! {
    /// What follows in an ordered endpoint when a delivery is out of attempts.
    #[derive(Default)]
    pub enum OnExhausted("value of on_exhausted") {
        /// It is dead, and the next one of its key goes out.
        #[default]
        Skip = "skip",
        /// It is tried until it succeeds, and its key waits.
        Block = "block",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_format_says_whether_there_is_more_to_know() {
        for format in Format::ALL {
            for (has_more, text) in [(false, format.to_string()), (true, format!("{format}/2"))] {
                let stored = StoredFormat {
                    format: *format,
                    has_more,
                };
                assert_eq!((stored.to_string(), text.parse()), (text.clone(), Ok(stored)));
                assert_eq!(
                    text.parse::<Format>().is_ok(),
                    !has_more,
                    "an earlier release stops"
                );
            }
        }
        for later in ["standard/3", "raw/2/2", "template", "/2", ""] {
            let error = later.parse::<StoredFormat>().unwrap_err();
            assert_eq!(error.name, later);
        }
    }
}
