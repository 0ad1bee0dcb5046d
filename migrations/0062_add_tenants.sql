-- An organisation's own customers. Replace the workers before the first tenant's endpoint is made: an earlier release
-- takes it for one of the organisation's own.
create table tenants (
    org_id uuid not null references organizations (id),
    -- What the organisation calls it.
    uid text collate "C" not null check (octet_length(uid) between 1 and 255),
    name text not null default '',
    -- A JSON object of strings, as text because jsonb would rewrite it.
    metadata text not null default '{}',
    -- Together with the organisation's limit; null is none of its own.
    rate_limit_per_minute bigint check (rate_limit_per_minute > 0),
    status text not null default 'enabled' check (status in ('enabled', 'disabled', 'deleting')),
    created_at timestamptz not null default now(),
    updated_at timestamptz not null default now(),
    -- The number of this row's last change.
    version bigint not null default 1,
    -- Since then workers remove what it had, and at the end this row.
    deleting_since timestamptz,
    primary key (org_id, uid),
    check ((status = 'deleting') = (deleting_since is not null))
);

create index tenants_to_delete on tenants (deleting_since) where deleting_since is not null;
create index tenants_by_change on tenants (updated_at);

alter table endpoints
    -- The only tenant whose events it gets; null gets those of no tenant.
    add column tenant text collate "C",
    -- It gets the events of all tenants and those of none.
    add column all_tenants boolean not null default false,
    -- False while its tenant is disabled: then it is no endpoint that events go to.
    add column tenant_enabled boolean not null default true,
    add constraint endpoints_tenant_check check (not all_tenants or tenant is null);

create index endpoints_by_tenant on endpoints (org_id, tenant, created_at, id)
    where tenant is not null and deleted_at is null;
create index endpoints_of_no_tenant on endpoints (org_id) where tenant is null and deleted_at is null;
create index endpoints_by_change on endpoints (org_id, (coalesce(tenant, '')), version);

-- How many endpoints and tenants an organisation has: counting a hundred thousand for each new one would take too long.
alter table organizations
    add column endpoints integer not null default 0,
    add column tenants integer not null default 0;

lock table endpoints in share row exclusive mode;

update organizations o set endpoints = n.count
from (select org_id, count(*) from endpoints where deleted_at is null group by org_id) n
where n.org_id = o.id;

-- Whoever locks several of them locks the organisation's row first, then those of endpoints, then that of the version. So a
-- deletion is counted before it gets its version, which triggers do in the order of their names; whoever adds or deletes an
-- endpoint has locked the organisation before.
create function count_added_endpoint() returns trigger language plpgsql as $$
begin
    update organizations set endpoints = endpoints + 1 where id = new.org_id;
    return null;
end $$;

create function count_deleted_endpoint() returns trigger language plpgsql as $$
begin
    update organizations set endpoints = endpoints - 1 where id = new.org_id;
    return new;
end $$;

create trigger count_added_endpoint after insert on endpoints for each row
    when (new.deleted_at is null) execute function count_added_endpoint();
create trigger count_deleted_endpoint before update of deleted_at on endpoints for each row
    when (old.deleted_at is null and new.deleted_at is not null) execute function count_deleted_endpoint();

create function count_tenant() returns trigger language plpgsql as $$
begin
    update organizations set tenants = tenants + case tg_op when 'INSERT' then 1 else -1 end
    where id = case tg_op when 'INSERT' then new.org_id else old.org_id end;
    return null;
end $$;

create trigger count_tenant after insert or delete on tenants for each row execute function count_tenant();

-- Whether endpoints that these organisations' tenants' events may go to were changed after a version. The tenant '' stands
-- for the organisation's own endpoints.
create function have_endpoints_changed(since bigint, org_ids uuid[], tenants text[]) returns boolean
language sql stable as $$
    select exists (
        select from unnest(org_ids, tenants) as of (org_id, tenant)
        join endpoints e on e.org_id = of.org_id and coalesce(e.tenant, '') = of.tenant and e.version > since
    )
$$;

alter table events add column tenant text collate "C";

create index events_by_tenant on events (org_id, tenant, accepted_at, id) where tenant is not null;

alter table api_keys add column tenant text collate "C";

create index api_keys_by_tenant on api_keys (org_id, tenant, created_at, id) where tenant is not null;

-- The same as before, and about a tenant's endpoint only those can want it that get that tenant's events.
create or replace function is_operational_event_wanted(org uuid, told text, about uuid) returns boolean
language sql stable as $$
    select exists (
        select from endpoints a
        join endpoints e on e.org_id = a.org_id and (e.all_tenants or e.tenant is not distinct from a.tenant)
        cross join unnest(e.event_types) as pattern
        where a.id = about and a.org_id = org
          and e.id <> about and e.status = 'enabled' and e.tenant_enabled and e.deleted_at is null
          and pattern <> '*'
          and case when pattern like '%*' then starts_with(told, rtrim(pattern, '*')) else pattern = told end
    )
$$;
