-- A delivery behind another one of its endpoint and key is parked once a worker has met it: it stands in no index of what may
-- be due, so that keys that wait cost nothing. A parked delivery always has a pending one of its key before it. A worker
-- parks it under a lock on the row of the nearest one, which so cannot end meanwhile; and whatever ends that one, a worker
-- of the previous release too, unparks the next one in the same transaction.
alter table deliveries add column parked boolean not null default false;

create index deliveries_in_turn on deliveries (endpoint_id, next_attempt_at, ordinal)
    where status = 'pending' and ordering_key is not null and not parked;

-- Each statement in here sees what was committed before it, also while the statement that ended the delivery had to wait
-- for its row.
create function unpark_next_of_key() returns trigger language plpgsql as $$
declare
    following record;
begin
    -- Locked, so that nobody parks it now who has not seen this end.
    select event_id, accepted_at, parked into following from deliveries
    where endpoint_id = old.endpoint_id and ordering_key = old.ordering_key and status = 'pending'
      and ordinal > old.ordinal
    order by ordinal limit 1 for no key update;
    if following.parked then
        update deliveries set parked = false
        where event_id = following.event_id and endpoint_id = old.endpoint_id and accepted_at = following.accepted_at;
    end if;
    -- It may be made again, and then stands before the others.
    if old.parked and tg_op = 'UPDATE' then
        update deliveries set parked = false
        where event_id = old.event_id and endpoint_id = old.endpoint_id and accepted_at = old.accepted_at;
    end if;
    return null;
end
$$;

create trigger deliveries_unpark_next after update of status on deliveries for each row
    when (old.ordering_key is not null and old.status = 'pending' and new.status <> 'pending')
    execute function unpark_next_of_key();

create trigger deliveries_unpark_after_removal after delete on deliveries for each row
    when (old.ordering_key is not null and old.status = 'pending')
    execute function unpark_next_of_key();
