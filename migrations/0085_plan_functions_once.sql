-- Postgres plans a function of the language SQL anew at each call, unless it can put it into the statement that calls it. These are
-- called for each batch of events, each result or each change, and a function of PL/pgSQL keeps its plan.

create or replace function have_endpoints_changed(since bigint, org_ids uuid[], tenants text[]) returns boolean
language plpgsql stable as $$
begin
    return exists (
        select from unnest(org_ids, tenants) as of (org_id, tenant)
        join endpoints e on e.org_id = of.org_id and coalesce(e.tenant, '') = of.tenant and e.version > since
    );
end $$;

create or replace function is_operational_event_wanted(org uuid, told text, about uuid) returns boolean
language plpgsql stable as $$
begin
    return exists (
        select from endpoints a
        join endpoints e on e.org_id = a.org_id and (e.all_tenants or e.tenant is not distinct from a.tenant)
        cross join unnest(e.event_types) as pattern
        where a.id = about and a.org_id = org
          and e.id <> about and e.status = 'enabled' and e.tenant_enabled and e.deleted_at is null
          and pattern <> '*'
          and case when pattern like '%*' then starts_with(told, rtrim(pattern, '*')) else pattern = told end
    );
end $$;

create or replace function without_secrets(columns jsonb) returns jsonb language plpgsql immutable as $$
declare
    name text;
begin
    foreach name in array array['secret', 'previous_secret', 'headers', 'signatures', 'auth', 'template', 'hash'] loop
        if columns -> name <> 'null' then
            columns := columns || jsonb_build_object(name, '(secret)');
        end if;
    end loop;
    return columns;
end $$;
