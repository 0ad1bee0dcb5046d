-- When its owner was told that the endpoint will be disabled. Means nothing when it is before `failing_since`.
alter table endpoint_health add column warned_at timestamptz;
