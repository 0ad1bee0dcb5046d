-- Who changed what: of organisations, keys, endpoints and tenants. Triggers write it, in the transaction of the change, so
-- that no change escapes it, also none that a person makes with SQL.
create table audit_log (
    id uuid primary key default gen_random_uuid(),
    at timestamptz not null default clock_timestamp(),
    -- The transaction's number. Who follows the log reads what is below every transaction that may still commit.
    transaction bigint not null default pg_current_xact_id()::text::bigint,
    -- Whose thing it is.
    org_id uuid not null,
    tenant text,
    -- `key:…`, `admin:…` or `signup`; `service:…` when nobody asked for it, or by SQL.
    actor text not null,
    -- Where the request came from.
    address text,
    kind text not null check (kind in ('organization', 'key', 'endpoint', 'tenant')),
    -- The thing's id.
    subject text not null,
    action text not null check (action in ('made', 'changed', 'revoked', 'deleted')),
    -- The changed columns. `"(secret)"` stands for what no list shows.
    before jsonb,
    after jsonb
);

create index audit_log_by_time on audit_log (at, id);
create index audit_log_by_organization on audit_log (org_id, at, id);
create index audit_log_by_transaction on audit_log (transaction, id);

-- How far the log was written to a worker's output.
create table audit_log_output (
    only_row boolean primary key default true check (only_row),
    -- The last entry that was.
    transaction bigint not null,
    id uuid not null
);

insert into audit_log_output (transaction, id)
values (pg_current_xact_id()::text::bigint, '00000000-0000-0000-0000-000000000000');

create function without_secrets(columns jsonb) returns jsonb language sql immutable as $$
    select jsonb_object_agg(key, case when key in ('secret', 'previous_secret', 'headers', 'signatures', 'auth', 'template', 'hash')
                                       and value <> 'null' then '"(secret)"' else value end)
    from jsonb_each(columns)
$$;

create function write_audit_log() returns trigger language plpgsql as $$
declare
    -- What no person changes.
    counted constant text[] := array['version', 'updated_at', 'changed_at', 'last_used_at', 'endpoints', 'tenants'];
    was jsonb := '{}';
    becomes jsonb := '{}';
    thing jsonb;
begin
    if current_setting('penstock.resealing', true) = 'on' or current_setting('penstock.erasing', true) = 'on' then
        return null;
    end if;
    if tg_op <> 'INSERT' then
        was := to_jsonb(old) - counted;
    end if;
    if tg_op <> 'DELETE' then
        becomes := to_jsonb(new) - counted;
    end if;
    thing := case tg_op when 'DELETE' then was else becomes end;
    if tg_op = 'UPDATE' then
        select jsonb_object_agg(key, was -> key), jsonb_object_agg(key, value) into was, becomes
        from jsonb_each(becomes) where was -> key is distinct from value;
        if becomes is null then
            return null;
        end if;
    end if;
    insert into audit_log (org_id, tenant, actor, address, kind, subject, action, before, after)
    values (
        case tg_argv[0] when 'organization' then (thing ->> 'id')::uuid else (thing ->> 'org_id')::uuid end,
        case tg_argv[0] when 'tenant' then thing ->> 'uid' else thing ->> 'tenant' end,
        coalesce(nullif(current_setting('penstock.actor', true), ''),
                 'service:' || current_setting('application_name')),
        nullif(current_setting('penstock.address', true), ''),
        tg_argv[0],
        case tg_argv[0] when 'tenant' then thing ->> 'uid' else thing ->> 'id' end,
        case when tg_op = 'INSERT' then 'made'
             when tg_op = 'DELETE' or becomes ->> 'deleted_at' is not null
                  or becomes ->> 'deleting_since' is not null then 'deleted'
             when becomes ->> 'revoked_at' is not null then 'revoked'
             else 'changed' end,
        case when tg_op <> 'INSERT' then without_secrets(was) end,
        case when tg_op <> 'DELETE' then without_secrets(becomes) end
    );
    return null;
end $$;

-- Columns are named where workers or replicas write others often.
create trigger write_audit_log
    after insert or delete or update of name, tier, rate_limit_per_minute, payload_retention_days, deleting_since
    on organizations
    for each row execute function write_audit_log('organization');
create trigger write_audit_log
    after insert or delete or update of name, scopes, expires_at, revoked_at, replaced_by on api_keys
    for each row execute function write_audit_log('key');
create trigger write_audit_log after insert or delete or update on endpoints
    for each row execute function write_audit_log('endpoint');
create trigger write_audit_log after insert or delete or update on tenants
    for each row execute function write_audit_log('tenant');

create function keep_audit_log() returns trigger language plpgsql as $$
begin
    -- Workers remove what is too old, and what entries tell of a tenant that was deleted.
    if tg_op = 'DELETE' and current_setting('penstock.audit_retention', true) = 'on' then
        return old;
    end if;
    if tg_op = 'UPDATE' and current_setting('penstock.erasing', true) = 'on' then
        return new;
    end if;
    raise exception 'audit_log only grows';
end $$;

create trigger keep_audit_log before update or delete on audit_log
    for each row execute function keep_audit_log();
create trigger keep_audit_log_whole before truncate on audit_log
    for each statement execute function keep_audit_log();
