//! A span that is recorded, from its beginning to its end.

use std::borrow::Cow;
use std::time::SystemTime;

use opentelemetry::trace::{SpanId, SpanKind, Status};
use opentelemetry::{KeyValue, Value};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use crate::domain::clock::UnixMicros;
use crate::traces::Traces;
use crate::traces::parent::TraceParent;

/// A span that has begun. One that is dropped without its [`end`](Self::end) is not recorded.
///
/// In a box, because most work is not traced and has room for one all the same.
#[derive(Debug)]
pub struct Span(Box<Open>);

#[derive(Debug)]
struct Open {
    context: TraceParent,
    traces: Traces,
    data: SpanData,
}

impl Span {
    /// Begins a span at a time.
    pub(super) fn begin(
        traces: &Traces,
        context: TraceParent,
        parent: Option<TraceParent>,
        kind: SpanKind,
        name: &'static str,
        at: UnixMicros,
    ) -> Self {
        let at: SystemTime = at.to_date_time().into();
        let data = SpanData {
            span_context: context.to_span_context(),
            parent_span_id: parent.map_or(SpanId::INVALID, |parent| parent.span),
            // Only an event's way into its stream begins in the process of the span before.
            parent_span_is_remote: parent.is_some() && kind != SpanKind::Producer,
            span_kind: kind,
            name: Cow::Borrowed(name),
            start_time: at,
            end_time: at,
            attributes: Vec::new(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: SpanLinks::default(),
            status: Status::Unset,
            instrumentation_scope: traces.scope(),
        };
        Self(Box::new(Open {
            context,
            traces: traces.clone(),
            data,
        }))
    }

    /// The span as others name it.
    pub fn context(&self) -> TraceParent {
        self.0.context
    }

    /// Tells something of it.
    pub fn set(&mut self, key: &'static str, value: impl Into<Value>) {
        self.0.data.attributes.push(KeyValue::new(key, value));
    }

    /// Says that it failed, and why.
    pub fn fail(&mut self, reason: impl Into<Cow<'static, str>>) {
        self.0.data.status = Status::error(reason);
    }

    /// Ends it now.
    pub fn end(self) {
        let Open { traces, mut data, .. } = *self.0;
        data.end_time = UnixMicros::now().to_date_time().into();
        traces.record(data);
    }
}
