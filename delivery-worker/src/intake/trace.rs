//! The spans of storing events.

use std::collections::HashSet;

use shared::domain::clock::UnixMicros;
use shared::domain::id::EventId;
use shared::traces::parent::TraceParent;
use shared::traces::{SpanKind, Traces};

use crate::intake::frame::Located;

/// Records that events were stored since `begun`: those of them that were `new`, and whose traces are recorded.
pub(super) fn stored(traces: &Traces, begun: UnixMicros, events: &[Located<'_>], new: &HashSet<EventId>) {
    for Located { event, frame, .. } in events.iter().filter(|located| new.contains(&located.event.id)) {
        let accepted = event.traceparent.and_then(TraceParent::parse);
        let span =
            accepted.and_then(|accepted| traces.begin_at(accepted, SpanKind::Consumer, "store event", begun));
        let Some(mut span) = span else { continue };
        span.set("penstock.event.id", event.id.to_string());
        span.set("messaging.system", "nats");
        span.set("messaging.destination.name", frame.stream.to_owned());
        let sequence = i64::try_from(frame.sequence).unwrap_or(i64::MAX);
        span.set("penstock.stream.sequence", sequence);
        span.end();
    }
}
