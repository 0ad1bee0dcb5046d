-- What organisations have used, by tenant and by the hour in which their events were accepted. Workers count it from the tables
-- when an hour is over, so nothing is written on an event's way.
create table usage (
    org_id uuid not null,
    -- In UTC.
    day date not null,
    -- Empty: events of no tenant.
    tenant text collate "C" not null,
    -- A day that is dropped has all its counts in hour 0.
    hour smallint not null check (hour between 0 and 23),
    -- Events, without operational ones.
    accepted bigint not null,
    -- Of their payloads; those that are removed later still count.
    bytes bigint not null,
    -- Their deliveries by status, and the attempts of all of them.
    delivered bigint not null,
    attempts bigint not null,
    dead bigint not null,
    primary key (org_id, day, tenant, hour)
);

create index usage_by_day on usage (day, hour);
create index usage_by_tenant on usage (org_id, tenant, day) where tenant <> '';

-- Accepted events of all tenants together, for quotas: the sum over a month of an organisation with many tenants takes too long.
create table usage_totals (
    org_id uuid not null,
    day date not null,
    hour smallint not null,
    accepted bigint not null,
    primary key (org_id, day, hour)
);

create index usage_totals_by_day on usage_totals (day);

-- The hours that were counted.
create table usage_hours (
    hour timestamptz primary key,
    counted_at timestamptz not null,
    -- open: counted again later, because deliveries were pending or it had only just ended. settled: counted again when
    -- `usage_recounts` says so. final: its day is dropped, and it is never counted again. merged: and its counts stand in hour 0.
    state text not null check (state in ('open', 'settled', 'final', 'merged')),
    -- Since when it has been counted as open, without a word from `usage_recounts`.
    open_since timestamptz not null
);

-- Hours in which something has changed since: a finished delivery is pending again, or an event came late. Rows are only added,
-- so that nobody waits for another; who counts an hour removes those that it sees before it counts.
create table usage_recounts (hour timestamptz not null);

create index usage_recounts_by_hour on usage_recounts (hour);

-- What the tables hold of these whole hours, all of which lie between two times: so that a plan that knows these leaves the
-- partitions of other days alone. Each event is found by the primary key of its organisation, each delivery by that of its event.
-- `own` are the types of operational events, which nobody has sent.
create function count_usage(hours timestamptz[], since timestamptz, until timestamptz, own text[])
returns table (org_id uuid, tenant text, at timestamptz, accepted bigint, bytes bigint, delivered bigint, attempts bigint,
               dead bigint, pending bigint)
language sql stable as $$
    select o.id, coalesce(e.tenant, ''), h.at, count(*), sum(octet_length(e.data))::bigint, sum(d.delivered)::bigint,
           sum(d.attempts)::bigint, sum(d.dead)::bigint, sum(d.pending)::bigint
    from unnest(hours) as h (at)
    cross join organizations o
    join events e on e.org_id = o.id and e.accepted_at >= h.at and e.accepted_at < h.at + interval '1 hour'
                 and e.accepted_at >= since and e.accepted_at < until
    cross join lateral (
        select count(*) filter (where status = 'delivered') as delivered,
               count(*) filter (where status = 'dead') as dead,
               count(*) filter (where status = 'pending') as pending,
               coalesce(sum(d.attempts), 0) as attempts
        from deliveries d
        where d.event_id = e.id and d.accepted_at = e.accepted_at and d.org_id = e.org_id
          and d.accepted_at >= since and d.accepted_at < until
    ) d
    where e.type <> all(own)
    group by o.id, coalesce(e.tenant, ''), h.at
$$;
