-- What stands beside `traceparent` in the trace context that an event carries on to receivers.
alter table events
    add column tracestate text,
    add column baggage text;
