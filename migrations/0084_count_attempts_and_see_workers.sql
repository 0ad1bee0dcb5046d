-- What came of an endpoint's attempts in an hour (UTC). Workers add what they have counted in memory, at most once a minute for
-- each endpoint, so nothing is written on a delivery's way. A worker that dies has not written what it counted last.
-- Rows are removed by age. They hold ids and counts alone, so those of a deleted endpoint may wait for that; with the row of an
-- endpoint, which is removed with its organisation, they go at once.
create table endpoint_hours (
    endpoint_id uuid not null references endpoints (id) on delete cascade,
    org_id uuid not null,
    hour timestamptz not null,
    -- Attempts.
    succeeded bigint not null,
    failed bigint not null,
    -- How many of all of them took how long, by the steps of shared::domain::durations; those after the last one that has any are
    -- left out.
    durations integer[] not null,
    primary key (endpoint_id, hour)
) with (
    -- A row is changed up to sixty times, on its own page.
    fillfactor = 60
);

create index endpoint_hours_by_hour on endpoint_hours (hour);

-- The sums of what stands at the same places of two lists.
create function add_each(one integer[], other integer[]) returns integer[] language sql immutable as $$
    select array_agg(least(coalesce(a, 0)::bigint + coalesce(b, 0), 2147483647)::integer order by place)
    from unnest(one, other) with ordinality as each (a, b, place)
$$;

-- The workers that run: each says so now and then, and removes its row when it stops. A crash of Postgres may empty the table,
-- as they say it again.
create unlogged table workers (
    id uuid primary key,
    version text not null,
    started_at timestamptz not null,
    last_seen_at timestamptz not null
);
