-- ingest-api makes several endpoints of one organisation by one statement, where several are asked for at once. It locks and writes
-- the rows of the organisation and of the version once, and is on disk once.

-- In the order in which a statement that makes endpoints locks them.
lock table tenants, endpoints in share row exclusive mode;

-- Which of several new endpoints an organisation and its tenants may have, each after those before it; no row when the organisation
-- does not exist or is being deleted. `their_tenants` names the tenant of each, null for none. It locks the organisation first,
-- until the transaction ends, and counts what is committed by then, which the statement that calls it may not see.
--
-- Whoever calls it makes the admitted endpoints next, in the same statement and under one number of `next_endpoint_version`, with a
-- tenant for each one that is the first of a new tenant. They are counted here: while `penstock.counted` is on, the triggers do not
-- count them once more.
create function admit_endpoints(
    org uuid, their_tenants text[], may_make_tenants boolean[], most_here bigint, most_in_all bigint, most_tenants bigint
) returns table (place integer, admission text, is_new_tenant boolean, gets_events boolean) language plpgsql as $$
declare
    counted record;
    its_tenant text;
    tenant_status text;
    -- The tenant, or the empty text for none.
    its_owner text;
    here bigint;
    -- How many endpoints an owner had before, if that was counted.
    had jsonb := '{}';
    -- The owners of the admitted ones, and those among them that are new tenants.
    owners text[] := '{}';
    new_tenants text[] := '{}';
begin
    perform set_config('penstock.counted', 'on', true);
    select o.endpoints, o.tenants into counted from organizations o
    where o.id = org and o.deleting_since is null for no key update;
    if not found then
        return;
    end if;
    for number in 1 .. cardinality(their_tenants) loop
        place := number;
        its_tenant := their_tenants[number];
        its_owner := coalesce(its_tenant, '');
        tenant_status := null;
        if its_tenant = any (new_tenants) then
            tenant_status := 'enabled';
        elsif its_tenant is not null then
            select t.status into tenant_status from tenants t where t.org_id = org and t.uid = its_tenant;
        end if;
        is_new_tenant := its_tenant is not null and tenant_status is null;
        gets_events := its_tenant is null or is_new_tenant or tenant_status = 'enabled';
        here := cardinality(array_positions(owners, its_owner));
        -- One owner has no more than all together, and a new tenant has none.
        if counted.endpoints + cardinality(owners) >= most_here and not is_new_tenant then
            if had -> its_owner is null then
                had := had || jsonb_build_object(its_owner, count_endpoints(org, its_tenant));
            end if;
            here := here + (had ->> its_owner)::bigint;
        end if;
        admission := case
            when tenant_status = 'deleting' then 'tenant_leaves'
            when is_new_tenant and not may_make_tenants[number] then 'no_tenant'
            when is_new_tenant and counted.tenants + cardinality(new_tenants) >= most_tenants then 'tenants_full'
            when here >= most_here then 'owner_full'
            when counted.endpoints + cardinality(owners) >= most_in_all then 'all_full'
            else 'admitted'
        end;
        if admission = 'admitted' then
            owners := array_append(owners, its_owner);
            if is_new_tenant then
                new_tenants := array_append(new_tenants, its_tenant);
            end if;
        end if;
        return next;
    end loop;
    if cardinality(owners) > 0 then
        update organizations o
        set endpoints = o.endpoints + cardinality(owners), tenants = o.tenants + cardinality(new_tenants)
        where o.id = org;
    end if;
end $$;

-- How many endpoints a tenant has, or an organisation besides those of its tenants.
create function count_endpoints(org uuid, its_tenant text) returns bigint language plpgsql as $$
begin
    -- Two queries, each with an index of its own.
    if its_tenant is null then
        return (select count(*) from endpoints e
                where e.org_id = org and e.tenant is null and e.deleted_at is null);
    end if;
    return (select count(*) from endpoints e
            where e.org_id = org and e.tenant = its_tenant and e.deleted_at is null);
end $$;

-- Counts a change of endpoints and returns its number, which all endpoints that it makes may have. Whoever counts a change has all
-- its locks afterwards; so it is then that a change whose key was revoked while it waited is refused.
create function next_endpoint_version() returns bigint language plpgsql as $$
declare
    actor text := current_setting('penstock.actor', true);
    number bigint;
begin
    update endpoint_version set version = version + 1 returning version into number;
    if actor like 'key:%'
        and exists (select from api_keys k where k.id = substr(actor, 5) and k.revoked_at is not null) then
        raise exception 'the API key of this change was revoked' using errcode = 'PS001';
    end if;
    return number;
end $$;

create or replace function count_endpoint_change() returns trigger language plpgsql as $$
begin
    if current_setting('penstock.resealing', true) = 'on' then
        return new;
    end if;
    new.version := next_endpoint_version();
    new.updated_at := now();
    return new;
end $$;

create or replace trigger count_endpoint_change before insert or update on endpoints for each row
    when (coalesce(current_setting('penstock.counted', true), '') <> 'on')
    execute function count_endpoint_change();
create or replace trigger count_added_endpoint after insert on endpoints for each row
    when (new.deleted_at is null and coalesce(current_setting('penstock.counted', true), '') <> 'on')
    execute function count_added_endpoint();
create or replace trigger count_tenant after insert or delete on tenants for each row
    when (coalesce(current_setting('penstock.counted', true), '') <> 'on')
    execute function count_tenant();

-- The same entries as before, of all rows that a statement makes at once.
create function write_audit_log_of_made() returns trigger language plpgsql as $$
declare
    -- As in write_audit_log.
    counted constant text[] := array['version', 'updated_at', 'changed_at', 'last_used_at', 'endpoints', 'tenants'];
begin
    if current_setting('penstock.resealing', true) = 'on' or current_setting('penstock.erasing', true) = 'on' then
        return null;
    end if;
    insert into audit_log (org_id, tenant, actor, address, kind, subject, action, after)
    select (thing ->> 'org_id')::uuid,
           case tg_argv[0] when 'tenant' then thing ->> 'uid' else thing ->> 'tenant' end,
           coalesce(nullif(current_setting('penstock.actor', true), ''),
                    'service:' || current_setting('application_name')),
           nullif(current_setting('penstock.address', true), ''),
           tg_argv[0],
           case tg_argv[0] when 'tenant' then thing ->> 'uid' else thing ->> 'id' end,
           'made',
           without_secrets(thing)
    -- `offset` keeps the planner from making the JSON once for each mention.
    from (select to_jsonb(m) - counted as thing from made m offset 0) things;
    return null;
end $$;

create or replace trigger write_audit_log after delete or update on endpoints
    for each row execute function write_audit_log('endpoint');
create or replace trigger write_audit_log after delete or update on tenants
    for each row execute function write_audit_log('tenant');
create trigger write_audit_log_of_made after insert on endpoints referencing new table as made
    for each statement execute function write_audit_log_of_made('endpoint');
create trigger write_audit_log_of_made after insert on tenants referencing new table as made
    for each statement execute function write_audit_log_of_made('tenant');
