-- What an organisation has acknowledged in the inbox of the Zapier Triggers API. Partitioned as events are, so that
-- it goes with them, and with the same key, so that a page of the inbox finds its marks beside each other.
create table inbox_acknowledgements (
    org_id uuid not null,
    accepted_at timestamptz not null,
    event_id uuid not null,
    acknowledged_at timestamptz not null default now(),
    primary key (org_id, accepted_at, event_id)
) partition by range (accepted_at);

create table inbox_acknowledgements_default partition of inbox_acknowledgements default;
