//! The spans of attempts.

use shared::domain::clock::{Timestamp, UnixMicros};
use shared::traces::parent::TraceParent;
use shared::traces::span::Span;
use shared::traces::{SpanKind, Traces};

use crate::endpoints::retry::Next;
use crate::send::attempt::Attempt;
use crate::send::job::Job;

/// Begins the span of an attempt; `None` when its event's trace is not recorded.
pub(crate) fn begin(traces: &Traces, job: &Job) -> Option<Span> {
    let accepted = TraceParent::parse(job.event.trace.traceparent.as_deref()?)?;
    let mut span = traces.begin(accepted, SpanKind::Client, "deliver event")?;
    span.set("penstock.event.id", job.event.id.to_string());
    span.set("penstock.endpoint.id", job.endpoint.id.to_string());
    span.set("penstock.organization.id", job.event.org_id.to_string());
    span.set("penstock.attempt", i64::from(job.attempt));
    span.set("http.request.method", job.endpoint.method.to_string());
    // Not the whole URL: its path may be a secret.
    if let Some(host) = job.endpoint.url.host_str() {
        span.set("server.address", host.to_owned());
    }
    Some(span)
}

/// Ends it, with what came of the attempt and what follows. One that was not made is none.
pub(crate) fn end(mut span: Span, job: &Job, attempt: &Attempt, next: Next) {
    let (what, wait) = match next {
        Next::Delivered => ("delivered", None),
        Next::RetryIn(wait) => ("retry", Some(wait)),
        Next::Dead => ("dead", None),
        Next::PutOff(_) => return,
    };
    let outcome = attempt.outcome.as_str();
    span.set("penstock.outcome", outcome);
    span.set("penstock.next", what);
    if let Some(wait) = wait {
        let due = UnixMicros::now().to_date_time() + wait;
        span.set("penstock.next_attempt_at", Timestamp(due).to_string());
    }
    if let Some(status) = attempt.status {
        span.set("http.response.status_code", i64::from(status));
    }
    if next != Next::Delivered {
        span.set("error.type", outcome);
        let reason = attempt.error.clone();
        span.fail(reason.unwrap_or_else(|| format!("attempt {} failed: {outcome}", job.attempt)));
    }
    span.end();
}
