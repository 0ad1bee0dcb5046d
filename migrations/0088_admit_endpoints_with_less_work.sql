-- What Postgres does while an organisation's row is locked bounds how many endpoints can be made a second.

-- The same as before, with less work: an owner's endpoints are counted only where there may be too many of them, and a new tenant is
-- counted together with its first endpoint. Each update of an organisation's row reads all constraints of the table anew.
--
-- Whoever is admitted with a new tenant makes the tenant and one endpoint of it next, in the same statement: that name stands in
-- `penstock.counted_tenant` then, and the triggers do not count the two once more.
create or replace function admit_endpoint(
    org uuid, its_tenant text, may_make_tenant boolean, most_here bigint, most_in_all bigint, most_tenants bigint
) returns table (admission text, is_new_tenant boolean, gets_events boolean) language plpgsql as $$
declare
    counted record;
    tenant_status text;
    here bigint := 0;
begin
    perform set_config('penstock.counted_tenant', '', true);
    select o.endpoints, o.tenants into counted from organizations o
    where o.id = org and o.deleting_since is null for no key update;
    if not found then
        return;
    end if;
    if its_tenant is not null then
        select t.status into tenant_status from tenants t where t.org_id = org and t.uid = its_tenant;
    end if;
    is_new_tenant := its_tenant is not null and tenant_status is null;
    gets_events := its_tenant is null or is_new_tenant or tenant_status = 'enabled';
    -- One owner has no more than all together, and a new tenant has none.
    if counted.endpoints >= most_here and not is_new_tenant then
        if its_tenant is null then
            select count(*) into here from endpoints e
            where e.org_id = org and e.tenant is null and e.deleted_at is null;
        else
            select count(*) into here from endpoints e
            where e.org_id = org and e.tenant = its_tenant and e.deleted_at is null;
        end if;
    end if;
    admission := case
        when tenant_status = 'deleting' then 'tenant_leaves'
        when is_new_tenant and not may_make_tenant then 'no_tenant'
        when is_new_tenant and counted.tenants >= most_tenants then 'tenants_full'
        when here >= most_here then 'owner_full'
        when counted.endpoints >= most_in_all then 'all_full'
        else 'admitted'
    end;
    if is_new_tenant and admission = 'admitted' then
        update organizations o set endpoints = o.endpoints + 1, tenants = o.tenants + 1 where o.id = org;
        perform set_config('penstock.counted_tenant', its_tenant, true);
    end if;
    return next;
end $$;

create or replace function count_added_endpoint() returns trigger language plpgsql as $$
begin
    if new.tenant = current_setting('penstock.counted_tenant', true) then
        return null;
    end if;
    update organizations set endpoints = endpoints + 1 where id = new.org_id;
    return null;
end $$;

create or replace function count_tenant() returns trigger language plpgsql as $$
begin
    if tg_op = 'INSERT' then
        if new.uid = current_setting('penstock.counted_tenant', true) then
            return null;
        end if;
        update organizations set tenants = tenants + 1 where id = new.org_id;
    else
        update organizations set tenants = tenants - 1 where id = old.org_id;
    end if;
    return null;
end $$;
