create table endpoints (
    id uuid primary key,
    org_id uuid not null references organizations (id),
    url text not null,
    description text not null default '',
    -- Exact types, or prefixes that end in `*`. No pattern at all matches every type.
    event_types text[] not null default '{}',
    -- The signing secret, encrypted for this endpoint's id.
    secret bytea not null,
    max_in_flight integer not null check (max_in_flight > 0),
    timeout_ms integer not null check (timeout_ms > 0),
    status text not null default 'enabled' check (status in ('enabled', 'disabled')),
    disabled_reason text,
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    deleted_at timestamptz,
    -- The value of endpoint_version at this row's last change.
    version bigint not null default 0
);

create index endpoints_by_org on endpoints (org_id, created_at) where deleted_at is null;
create index endpoints_by_version on endpoints (version);

-- Counts the changes to endpoints, one at a time: whoever sees a version sees every change up to it. Workers
-- compare it, in the statement that fans out, with the version of the endpoints that they hold in memory, so
-- an event that was accepted after a change is always fanned out with that change.
create table endpoint_version (
    only_row boolean primary key default true check (only_row),
    version bigint not null
);

insert into endpoint_version (version) values (0);

create function count_endpoint_change() returns trigger language plpgsql as $$
begin
    update endpoint_version set version = version + 1 returning version into new.version;
    new.updated_at := now();
    return new;
end $$;

create trigger count_endpoint_change before insert or update on endpoints
    for each row execute function count_endpoint_change();
