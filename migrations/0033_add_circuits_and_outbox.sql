-- An endpoint that is enabled again starts without a past, and one that is deleted needs none.
create function forget_endpoint_health() returns trigger language plpgsql as $$
begin
    delete from endpoint_health where endpoint_id = new.id;
    return null;
end $$;

create trigger forget_endpoint_health after update on endpoints for each row
    when ((old.status <> new.status and new.status = 'enabled') or old.deleted_at is distinct from new.deleted_at)
    execute function forget_endpoint_health();

-- Whether an operational event about an endpoint has a taker: another endpoint of the organisation that names its
-- type. One that names none gets what producers send, and no operational events.
create function is_operational_event_wanted(org uuid, told text, about uuid) returns boolean
language sql stable as $$
    select exists (
        select from endpoints e cross join unnest(e.event_types) as pattern
        where e.org_id = org and e.id <> about and e.status = 'enabled' and e.deleted_at is null
          and pattern <> '*'
          and case when pattern like '%*' then starts_with(told, rtrim(pattern, '*')) else pattern = told end
    )
$$;

-- What was stored before this time was followed by nothing that is still in the stream: it was seen empty. Holds for
-- deliveries of a stream that was deleted, too, whose sequence numbers tell nothing about the one that took its name.
alter table stream_floors add column drained_at timestamptz;
