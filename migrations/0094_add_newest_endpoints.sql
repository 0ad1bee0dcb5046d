-- The newest endpoints that are not deleted, of an organisation or of one of its tenants, `most` at the most. Two branches, each with
-- an index of its own. Postgres puts it into the statement that calls it, as long as it stays one query and `stable`.
create function newest_endpoints(org uuid, its_tenant text, most bigint)
returns table (id uuid, url text, status text, disabled_reason text, created_at timestamptz)
language sql stable as $$
    (select e.id, e.url, e.status, e.disabled_reason, e.created_at from endpoints e
     where its_tenant is null and e.org_id = org and e.deleted_at is null
     order by e.created_at desc limit most)
    union all
    (select e.id, e.url, e.status, e.disabled_reason, e.created_at from endpoints e
     where e.org_id = org and e.tenant = its_tenant and e.deleted_at is null
     order by e.created_at desc limit most)
$$;
