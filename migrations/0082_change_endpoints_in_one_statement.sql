-- ingest-api makes, changes or deletes an endpoint by one statement, which is a transaction of its own. All changes lock the row
-- of endpoint_version, and those that make or delete one their organisation's, until they are on disk. So these rows are locked
-- while Postgres works, and not while it waits for the network or for a replica that stands still.

-- Says for the rest of the transaction who changes something, as the audit log names them; empty when nobody asked for it.
create function act_as(actor text, address text) returns boolean language plpgsql as $$
begin
    perform set_config('penstock.actor', actor, true), set_config('penstock.address', address, true);
    return true;
end $$;

-- Whether an organisation, or one of its tenants, may have one more endpoint; no row when the organisation does not exist or is
-- being deleted. It locks the organisation first, until the transaction ends, and counts what is committed by then, which the
-- statement that calls it may not see.
create function admit_endpoint(
    org uuid, its_tenant text, may_make_tenant boolean, most_here bigint, most_in_all bigint, most_tenants bigint
) returns table (admission text, is_new_tenant boolean, gets_events boolean) language plpgsql as $$
declare
    counted record;
    tenant_status text;
    here bigint;
begin
    select o.endpoints, o.tenants into counted from organizations o
    where o.id = org and o.deleting_since is null for no key update;
    if not found then
        return;
    end if;
    select t.status into tenant_status from tenants t where t.org_id = org and t.uid = its_tenant;
    if its_tenant is null then
        select count(*) into here from endpoints e
        where e.org_id = org and e.tenant is null and e.deleted_at is null;
    else
        select count(*) into here from endpoints e
        where e.org_id = org and e.tenant = its_tenant and e.deleted_at is null;
    end if;
    is_new_tenant := its_tenant is not null and tenant_status is null;
    gets_events := its_tenant is null or is_new_tenant or tenant_status = 'enabled';
    admission := case
        when tenant_status = 'deleting' then 'tenant_leaves'
        when is_new_tenant and not may_make_tenant then 'no_tenant'
        when is_new_tenant and counted.tenants >= most_tenants then 'tenants_full'
        when here >= most_here then 'owner_full'
        when counted.endpoints >= most_in_all then 'all_full'
        else 'admitted'
    end;
    return next;
end $$;

-- A request whose key is revoked while its statement waits for a lock is answered at once, and its statement goes on. It must
-- change nothing. Who changes an endpoint has all locks once the change is counted.
create or replace function count_endpoint_change() returns trigger language plpgsql as $$
declare
    actor text := current_setting('penstock.actor', true);
begin
    if current_setting('penstock.resealing', true) = 'on' then
        return new;
    end if;
    update endpoint_version set version = version + 1 returning version into new.version;
    if actor like 'key:%'
        and exists (select from api_keys k where k.id = substr(actor, 5) and k.revoked_at is not null) then
        raise exception 'the API key of this change was revoked' using errcode = 'PS001';
    end if;
    new.updated_at := now();
    return new;
end $$;
