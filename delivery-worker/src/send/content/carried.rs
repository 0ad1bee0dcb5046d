//! The trace that an event belongs to, as it goes on to receivers.

use hyper::header::{HeaderMap, HeaderValue};
use shared::domain::event::Event;
use shared::traces::parent::TraceParent;

/// The headers by which an event carries its trace on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Carried {
    /// The span that accepted it, or its producer's.
    pub traceparent: Option<String>,
    /// What tracing systems added.
    pub tracestate: Option<String>,
    /// What the producer gave along.
    pub baggage: Option<String>,
}

impl Carried {
    /// Of an event.
    pub(crate) fn of(event: &Event<'_>) -> Self {
        Self {
            traceparent: event.traceparent.map(str::to_owned),
            tracestate: event.tracestate.map(str::to_owned),
            baggage: event.baggage.map(str::to_owned),
        }
    }

    /// Writes the headers of an attempt, whose span is `span` when it is recorded.
    pub(crate) fn write(&self, span: Option<TraceParent>, headers: &mut HeaderMap) {
        let mut carry = |name, value: Option<&str>| {
            if let Some(Ok(value)) = value.map(HeaderValue::try_from) {
                headers.insert(name, value);
            }
        };
        match span {
            Some(span) => carry("traceparent", Some(&span.to_string())),
            None => carry("traceparent", self.traceparent.as_deref()),
        }
        carry("tracestate", self.tracestate.as_deref());
        carry("baggage", self.baggage.as_deref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(carried: &Carried, span: Option<TraceParent>) -> Vec<(String, String)> {
        let mut headers = HeaderMap::new();
        carried.write(span, &mut headers);
        let text = |value: &HeaderValue| value.to_str().unwrap().to_owned();
        let headers = headers
            .iter()
            .map(|(name, value)| (name.to_string(), text(value)));
        let mut headers: Vec<_> = headers.collect();
        headers.sort();
        headers
    }

    #[test]
    fn a_receiver_gets_the_span_of_the_attempt_or_else_what_the_event_carries() {
        let carried = Carried {
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            tracestate: Some("a=1,b=2".to_owned()),
            baggage: None,
        };
        let own = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902ff-01";
        for (span, traceparent) in [
            (None, carried.traceparent.as_deref().unwrap()),
            (TraceParent::parse(own), own),
        ] {
            let expected = [("traceparent", traceparent), ("tracestate", "a=1,b=2")];
            let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
            assert_eq!(written(&carried, span), expected);
        }
        assert!(written(&Carried::default(), None).is_empty());
    }
}
