-- When a key was changed otherwise than by being used. Replicas are told of a change by a message; those that it did not
-- reach see it here.
alter table api_keys add column changed_at timestamptz;

create index api_keys_by_change on api_keys (changed_at) where changed_at is not null;

create function note_key_change() returns trigger language plpgsql as $$
begin
    new.changed_at := clock_timestamp();
    return new;
end
$$;

create trigger api_keys_note_change before update of revoked_at, expires_at, replaced_by, scopes on api_keys
for each row execute function note_key_change();
