alter table endpoints
    -- A payload filter, as JSON text; without one every payload matches.
    add column filter text,
    -- Further request headers: a JSON object, encrypted for this endpoint's id, because they may be credentials.
    add column headers bytea,
    add column format text not null default 'standard' check (format in ('standard', 'cloudevents')),
    -- What overrides the workers' retry policy; null keeps it.
    add column retry_attempts integer check (retry_attempts > 0),
    add column retry_initial_ms bigint check (retry_initial_ms > 0),
    add column retry_factor double precision check (retry_factor >= 1),
    add column retry_max_ms bigint check (retry_max_ms > 0),
    add column retry_max_age_ms bigint check (retry_max_age_ms > 0),
    -- All workers together send it no more than this; null is no limit.
    add column rate_limit_per_second integer check (rate_limit_per_second > 0),
    -- Deliveries that have an ordering key go out one after another, by key.
    add column ordered boolean not null default false,
    -- What follows when such a delivery is out of attempts: the next one, or still this one until it succeeds.
    add column on_exhausted text not null default 'skip' check (on_exhausted in ('skip', 'block')),
    -- The secret before the last rotation, which signs beside the new one until it expires.
    add column previous_secret bytea,
    add column previous_secret_expires_at timestamptz,
    add constraint endpoints_previous_secret_check
        check ((previous_secret is null) = (previous_secret_expires_at is null)),
    add constraint endpoints_ordered_check check (not ordered or kind = 'push');

-- Endpoints that have failed since their last success, and only those. Apart from `endpoints`, whose every change
-- all workers read.
create table endpoint_health (
    endpoint_id uuid primary key references endpoints (id),
    org_id uuid not null,
    consecutive_failures integer not null,
    failing_since timestamptz not null,
    -- While the circuit is open nothing is sent before this time; then one delivery is, as a probe. Null is closed.
    open_until timestamptz
);

-- When an endpoint with a rate limit may be sent the next delivery: all workers take their turns from this row.
create table endpoint_pace (
    endpoint_id uuid primary key references endpoints (id),
    org_id uuid not null,
    next_at timestamptz not null
);
