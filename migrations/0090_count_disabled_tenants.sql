-- As before, and what waits for an endpoint whose tenant is disabled has the state `disabled`: no worker may send it.
create or replace function count_backlog() returns table (state text, deliveries bigint, due_since timestamptz)
language sql stable as $$
    with recursive pushed as (
        (select endpoint_id, next_attempt_at, 1 as step from deliveries
         where status = 'pending' and not pull and ordering_key is null
         order by endpoint_id, next_attempt_at limit 1)
        union all
        select next.endpoint_id, next.next_attempt_at, pushed.step + 1
        from pushed cross join lateral (
            select endpoint_id, next_attempt_at from deliveries
            where status = 'pending' and not pull and ordering_key is null and endpoint_id > pushed.endpoint_id
            order by endpoint_id, next_attempt_at limit 1
        ) next
        where pushed.step < 2000
    ),
    -- A parked delivery has one of its key before it that is not parked, so these are all endpoints with ordered ones.
    keyed as (
        (select endpoint_id, next_attempt_at, 1 as step from deliveries
         where status = 'pending' and ordering_key is not null and not parked
         order by endpoint_id, next_attempt_at, ordinal limit 1)
        union all
        select next.endpoint_id, next.next_attempt_at, keyed.step + 1
        from keyed cross join lateral (
            select endpoint_id, next_attempt_at from deliveries
            where status = 'pending' and ordering_key is not null and not parked and endpoint_id > keyed.endpoint_id
            order by endpoint_id, next_attempt_at, ordinal limit 1
        ) next
        where keyed.step < 2000
    ),
    pulled as (
        (select endpoint_id, 1 as step from deliveries where status = 'pending' and pull
         order by endpoint_id, next_attempt_at limit 1)
        union all
        select next.endpoint_id, pulled.step + 1
        from pulled cross join lateral (
            select endpoint_id from deliveries
            where status = 'pending' and pull and endpoint_id > pulled.endpoint_id
            order by endpoint_id, next_attempt_at limit 1
        ) next
        where pulled.step < 2000
    ),
    found as (
        select 'push' as lane, endpoint_id, next_attempt_at from pushed
        union all
        select 'turn', endpoint_id, next_attempt_at from keyed
        union all
        select 'parked', endpoint_id, null from keyed
        union all
        select 'pull', endpoint_id, null from pulled
    ),
    kept as materialized (
        select f.*, case
            when e.status <> 'enabled' or not e.tenant_enabled or e.deleted_at is not null then 'disabled'
            when f.lane = 'pull' then 'pull'
            when f.lane = 'parked' then 'ordered'
            when h.open_until is not null then 'circuit_open'
            when h.waits_until is not null then 'held'
            when e.rate_limit_per_second is not null and p.next_at > now() then 'paced'
            else 'due'
        end as state
        from found f
        join endpoints e on e.id = f.endpoint_id
        left join endpoint_health h on h.endpoint_id = f.endpoint_id
        left join endpoint_pace p on p.endpoint_id = f.endpoint_id
    ),
    -- What of each endpoint is counted, and as what: what is due after `after` and at `through` at the latest.
    parts as materialized (
        select k.lane, k.endpoint_id, k.state, '-infinity'::timestamptz as after,
               case when k.lane in ('push', 'turn') and k.state <> 'disabled' then now() else 'infinity' end as through,
               case when k.next_attempt_at <= now() then k.next_attempt_at end as due_since
        from kept k
        union all
        select k.lane, k.endpoint_id, 'waiting', now(), 'infinity', null
        from kept k where k.lane in ('push', 'turn') and k.state <> 'disabled'
    )
    select s.state,
           (select count(*) filter (where counts) from (
                select d.counts from parts p cross join lateral (
                    select true as counts from deliveries d
                    where p.lane = 'push' and d.endpoint_id = p.endpoint_id and d.status = 'pending' and not d.pull
                      and d.ordering_key is null and d.next_attempt_at > p.after and d.next_attempt_at <= p.through
                    union all
                    select true from deliveries d
                    where p.lane = 'turn' and d.endpoint_id = p.endpoint_id and d.status = 'pending'
                      and d.ordering_key is not null and not d.parked
                      and d.next_attempt_at > p.after and d.next_attempt_at <= p.through
                    union all
                    -- No index has the parked ones alone.
                    select d.parked from deliveries d
                    where p.lane = 'parked' and d.endpoint_id = p.endpoint_id and d.status = 'pending'
                      and d.ordering_key is not null
                    union all
                    select true from deliveries d
                    where p.lane = 'pull' and d.endpoint_id = p.endpoint_id and d.status = 'pending' and d.pull
                ) d
                where p.state = s.state limit 10000
            ) counted),
           (select min(p.due_since) from parts p where p.state = s.state)
    from (values ('due'), ('paced'), ('circuit_open'), ('held'), ('waiting'), ('ordered'), ('pull'), ('disabled')) as s (state)
$$;
