-- Who changed what an organisation's portal looks like, and which web pages may embed it.
alter table audit_log drop constraint audit_log_kind_check;
-- Every row there is fulfils it: it allows more than the one before.
alter table audit_log add constraint audit_log_kind_check
    check (kind in ('organization', 'key', 'endpoint', 'tenant', 'portal')) not valid;

-- A picture is too large to be kept with each change.
create function without_picture(columns jsonb) returns jsonb language sql immutable as $$
    select case when columns ->> 'logo' is null then columns
                else jsonb_set(columns, '{logo}', '"(picture)"') end
$$;

create function write_audit_log_of_portal() returns trigger language plpgsql as $$
declare
    was jsonb := '{}';
    becomes jsonb := '{}';
    owner uuid;
begin
    if current_setting('penstock.erasing', true) = 'on' then
        return null;
    end if;
    if tg_op <> 'INSERT' then
        was := to_jsonb(old) - 'org_id';
        owner := old.org_id;
    end if;
    if tg_op <> 'DELETE' then
        becomes := to_jsonb(new) - 'org_id';
        owner := new.org_id;
    end if;
    if tg_op = 'UPDATE' then
        select jsonb_object_agg(key, was -> key), jsonb_object_agg(key, value) into was, becomes
        from jsonb_each(becomes) where was -> key is distinct from value;
        if becomes is null then
            return null;
        end if;
    end if;
    insert into audit_log (org_id, actor, address, kind, subject, action, before, after)
    values (
        owner,
        coalesce(nullif(current_setting('penstock.actor', true), ''),
                 'service:' || current_setting('application_name')),
        nullif(current_setting('penstock.address', true), ''),
        'portal',
        owner::text,
        case tg_op when 'INSERT' then 'made' when 'DELETE' then 'deleted' else 'changed' end,
        case when tg_op <> 'INSERT' then without_picture(was) end,
        case when tg_op <> 'DELETE' then without_picture(becomes) end
    );
    return null;
end $$;

create trigger write_audit_log after insert or delete or update on portals
    for each row execute function write_audit_log_of_portal();
