-- Events that were stored more than five seconds after they were accepted, by when that was: out of a backlog, or with the time of
-- a wrong clock. Whoever follows events by the time of acceptance has passed these. Events that are stored in time, nearly all of
-- them, do not stand in it. The condition has this form because a time plus an interval depends on the time zone, and no index may.
create index events_stored_late on events (org_id, stored_at, id)
    where stored_at - accepted_at > interval '5 seconds';
