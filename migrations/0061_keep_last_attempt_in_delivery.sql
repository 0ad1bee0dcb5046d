alter table deliveries
    -- The attempt whose facts follow. It has no row in `attempts`, where only those before it stand: nearly every delivery
    -- succeeds at once, and then needs one row. Null when all attempts stand there.
    add column last_attempt integer,
    add column last_started_at timestamptz,
    add column last_duration_ms integer,
    -- Its outcome; null is `delivered`.
    add column last_failure text,
    add column last_response_status smallint,
    add column last_response_body bytea,
    add column last_error text;

create view attempt_history as
select org_id, event_id, endpoint_id, accepted_at, number, started_at, duration_ms, outcome, response_status,
       response_body, error
from attempts
union all
select org_id, event_id, endpoint_id, accepted_at, last_attempt, last_started_at, last_duration_ms,
       coalesce(last_failure, 'delivered'), last_response_status, last_response_body, last_error
from deliveries
where last_attempt is not null;
