-- All three tables are partitioned by the day, in UTC, on which the event was accepted, so that a day's events
-- go together with their deliveries and attempts, and one partition serves a join. Workers create the
-- partitions ahead of time; the default ones take what a wrong clock dated elsewhere.

create table events (
    org_id uuid not null,
    accepted_at timestamptz not null,
    id uuid not null,
    type text not null,
    content_type text not null,
    data bytea not null,
    idempotency_key text,
    traceparent text,
    -- The context attributes of an event that came as a CloudEvent: a JSON object, as text because jsonb would
    -- rewrite it.
    cloudevent text,
    stored_at timestamptz not null default now(),
    primary key (org_id, accepted_at, id)
) partition by range (accepted_at);

-- An id without an idempotency key tells its own time, so the primary key finds it; a derived one does not.
create index events_by_derived_id on events (id) where idempotency_key is not null;

create table events_default partition of events default;

-- One row for each event and endpoint. A pending row is due at next_attempt_at; a claim moves that forward to
-- the end of its lease and writes its token, so the row of a worker that died comes due by itself.
create table deliveries (
    org_id uuid not null,
    event_id uuid not null,
    endpoint_id uuid not null,
    accepted_at timestamptz not null,
    status text not null default 'pending' check (status in ('pending', 'delivered', 'dead')),
    attempts integer not null default 0,
    next_attempt_at timestamptz,
    lease_token uuid,
    created_at timestamptz not null default now(),
    finished_at timestamptz,
    primary key (event_id, endpoint_id, accepted_at),
    -- A pending delivery is always due at some time, a finished one never.
    check ((status = 'pending') = (next_attempt_at is not null)),
    check (lease_token is null or status = 'pending')
) partition by range (accepted_at);

create index deliveries_due on deliveries (endpoint_id, next_attempt_at) where status = 'pending';

create table deliveries_default partition of deliveries default;

create table attempts (
    org_id uuid not null,
    event_id uuid not null,
    endpoint_id uuid not null,
    accepted_at timestamptz not null,
    number integer not null,
    started_at timestamptz not null,
    duration_ms integer not null,
    -- `delivered`, or the class of the failure: `status`, `timeout`, `connect`, `dns`, `tls`, `refused`, …
    outcome text not null,
    response_status smallint,
    response_body bytea,
    error text,
    primary key (event_id, endpoint_id, accepted_at, number)
) partition by range (accepted_at);

create table attempts_default partition of attempts default;

-- What makes a repeated idempotency key a repeat. Not partitioned: uniqueness must span midnight.
create table idempotency_keys (
    org_id uuid not null,
    event_id uuid not null,
    accepted_at timestamptz not null,
    primary key (org_id, event_id)
);

create index idempotency_keys_by_age on idempotency_keys using brin (accepted_at);

-- Frames and events that no worker can read or store, with their bytes, for a person to look at.
create table quarantine (
    stream text not null,
    sequence bigint not null,
    -- Index of the event in its frame; -1 is the whole frame.
    position integer not null,
    org_id uuid,
    frame_version text,
    reason text not null,
    bytes bytea not null,
    set_aside_at timestamptz not null default now(),
    primary key (stream, sequence, position)
);
