alter table api_keys
    -- To the minute or so: replicas write it now and then.
    add column last_used_at timestamptz,
    -- The key that a rotation made to take this one's place.
    add column replaced_by text references api_keys (id);

-- Lists are paged by the time of creation and, for one moment, by the id.
create index organizations_by_creation on organizations (created_at, id);
