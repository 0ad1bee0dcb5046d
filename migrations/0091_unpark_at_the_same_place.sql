-- As before, and for deliveries whose ordinals are equal: their events came at the same place of two streams, or of a stream and the
-- one that was made again under its name. Two of them may be parked behind the same delivery. Its end unparks one, and the end of
-- that one has to unpark the other.
create or replace function unpark_next_of_key() returns trigger language plpgsql as $$
declare
    following record;
begin
    -- Locked, so that nobody parks it now who has not seen this end.
    select event_id, accepted_at, parked into following from deliveries
    where endpoint_id = old.endpoint_id and ordering_key = old.ordering_key and status = 'pending'
      and ordinal >= old.ordinal
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

-- Those that nobody would have unparked any more. A worker parks again what it meets behind another one.
update deliveries d set parked = false
where d.parked and d.status = 'pending' and d.ordering_key is not null
  and not exists (
      select from deliveries earlier
      where earlier.endpoint_id = d.endpoint_id and earlier.ordering_key = d.ordering_key
        and earlier.status = 'pending' and earlier.ordinal < d.ordinal
  );
