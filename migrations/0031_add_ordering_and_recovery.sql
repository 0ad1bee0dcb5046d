alter table events
    -- The producer's; deliveries to ordered endpoints keep the order of acceptance within one key.
    add column ordering_key text,
    -- When its payload was removed, by request or after the organisation's retention.
    add column expunged_at timestamptz;

alter table deliveries
    -- Set for ordered endpoints: the delivery waits for every pending one of its key with a lower ordinal, and until
    -- its stream is stored up to its own place. The ordinal is the place: sequence number × 1024 + index in the frame.
    add column ordering_key text,
    add column stream text,
    add column ordinal bigint,
    -- How the last attempt ended, as in `attempts`; also `expunged` when the payload was removed before delivery.
    add column last_outcome text,
    -- When it was last made pending again, and the attempts made before: the retry policy counts from there.
    add column revived_at timestamptz,
    add column attempts_before integer not null default 0,
    add constraint deliveries_ordering_check
        check ((ordering_key is null) = (ordinal is null) and (ordinal is null) = (stream is null));

-- Ordered deliveries stand in an index of their own: the first of each key is found without meeting the others.
drop index deliveries_to_push;
create index deliveries_to_push on deliveries (endpoint_id, next_attempt_at)
    where status = 'pending' and not pull and ordering_key is null;
create index deliveries_in_order on deliveries (endpoint_id, ordering_key, ordinal)
    where status = 'pending' and ordering_key is not null;

-- Dead deliveries are listed and recovered; there are few.
create index deliveries_dead on deliveries (org_id, endpoint_id, accepted_at, event_id) where status = 'dead';

-- How far each stream is stored: every frame up to this sequence number is acknowledged.
create table stream_floors (
    stream text primary key,
    stored_through bigint not null
);

-- Paced returns of an endpoint's deliveries to `pending`. Workers take steps of `per_second` rows, in the order of
-- (accepted_at, event_id).
create table recoveries (
    id uuid primary key,
    org_id uuid not null references organizations (id),
    endpoint_id uuid not null references endpoints (id),
    since timestamptz not null,
    until timestamptz not null,
    -- Which deliveries: `dead`, `delivered`.
    statuses text[] not null,
    per_second integer not null check (per_second > 0),
    status text not null default 'running' check (status in ('running', 'finished', 'cancelled')),
    -- Deliveries that matched when it was created, and those made pending so far.
    matched bigint not null,
    recovered bigint not null default 0,
    -- The last delivery that was looked at.
    position_at timestamptz,
    position_event uuid,
    next_step_at timestamptz not null default now(),
    created_at timestamptz not null default now(),
    finished_at timestamptz
);

create index recoveries_by_endpoint on recoveries (endpoint_id, created_at);
create index recoveries_running on recoveries (next_step_at) where status = 'running';

-- Operational events that are to be stored like other events: written with what they tell of, removed when stored.
create table operational_events (
    id uuid primary key,
    org_id uuid not null,
    type text not null,
    -- What it is about; it gets no operational events about itself.
    endpoint_id uuid not null,
    data text not null,
    created_at timestamptz not null default now()
);

alter table organizations
    -- Days after which payloads are removed; null keeps them as long as their partition.
    add column payload_retention_days integer check (payload_retention_days > 0);
