//! What an event carries on of its request's trace.

use std::borrow::Cow;

use axum::http::HeaderMap;
use shared::domain::event::TraceContext;

use crate::http::request::event_headers::traceparent;
use crate::http::trace::Traced;

/// Longest header of each name that is carried on, in bytes: no less than W3C asks for. A longer one is left out.
const MAX_TRACESTATE: usize = 512;
const MAX_BAGGAGE: usize = 8_192;

/// The trace context of a request, as its events carry it on.
#[derive(Debug)]
pub(crate) struct CarriedTrace<'a> {
    traceparent: Option<Cow<'a, str>>,
    tracestate: Option<Cow<'a, str>>,
    baggage: Option<Cow<'a, str>>,
}

impl<'a> CarriedTrace<'a> {
    /// Of a request. Where it is traced, its own span takes the place of its client's: what follows belongs below it.
    pub(crate) fn of(headers: &'a HeaderMap, traced: Option<&Traced>, with_baggage: bool) -> Self {
        let given = traceparent(headers);
        let listed = |name, most, is_carried: bool| {
            let value = is_carried.then(|| joined(headers, name))??;
            (value.len() <= most).then_some(value)
        };
        Self {
            traceparent: match traced {
                Some(traced) => Some(traced.span.to_string().into()),
                None => given.map(Cow::Borrowed),
            },
            tracestate: listed("tracestate", MAX_TRACESTATE, given.is_some()),
            baggage: listed("baggage", MAX_BAGGAGE, with_baggage),
        }
    }

    /// As an event holds it.
    pub(crate) fn context(&self) -> TraceContext<'_> {
        TraceContext {
            traceparent: self.traceparent.as_deref(),
            tracestate: self.tracestate.as_deref(),
            baggage: self.baggage.as_deref(),
        }
    }
}

/// A header that is a list, whose parts may stand in several headers. None when it is missing, empty, or not ASCII.
fn joined<'a>(headers: &'a HeaderMap, name: &'static str) -> Option<Cow<'a, str>> {
    let mut values = headers.get_all(name).iter();
    let mut list = Cow::Borrowed(values.next()?.to_str().ok()?);
    for value in values {
        let list = list.to_mut();
        list.push(',');
        list.push_str(value.to_str().ok()?);
    }
    (!list.is_empty()).then_some(list)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let value = HeaderValue::from_str(value).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    #[test]
    fn a_clients_context_is_carried_on_as_it_came() {
        let headers = headers(&[
            ("traceparent", PARENT),
            ("tracestate", "a=1"),
            ("tracestate", "b=2"),
            ("baggage", "k=v"),
        ]);
        let carried = CarriedTrace::of(&headers, None, true);
        let expected = TraceContext {
            traceparent: Some(PARENT),
            tracestate: Some("a=1,b=2"),
            baggage: Some("k=v"),
        };
        assert_eq!(carried.context(), expected);
        assert_eq!(CarriedTrace::of(&headers, None, false).context().baggage, None);
    }

    #[test]
    fn what_belongs_to_no_trace_or_is_too_long_is_left_out() {
        let orphan = headers(&[("traceparent", "00-0-0-00"), ("tracestate", "a=1")]);
        let carried = CarriedTrace::of(&orphan, None, true);
        assert_eq!(carried.context(), TraceContext::default());
        let (state, baggage) = ("x".repeat(MAX_TRACESTATE + 1), "x".repeat(MAX_BAGGAGE + 1));
        let long = headers(&[
            ("traceparent", PARENT),
            ("tracestate", &state),
            ("baggage", &baggage),
        ]);
        let carried = CarriedTrace::of(&long, None, true);
        let expected = TraceContext {
            traceparent: Some(PARENT),
            ..TraceContext::default()
        };
        assert_eq!(carried.context(), expected);
    }
}
