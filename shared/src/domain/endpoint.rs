//! The words for what an endpoint is.

use crate::domain::event;
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
    /// What the body of a webhook is.
    #[derive(Default)]
    pub enum Format("webhook format") {
        /// `{"id", "type", "timestamp", "data"}`.
        #[default]
        Standard = "standard",
        /// A CloudEvent in structured mode.
        CloudEvents = "cloudevents",
    }
}

impl Format {
    /// The media type of a body.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Standard => event::JSON,
            Self::CloudEvents => "application/cloudevents+json",
        }
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
