-- Since then workers remove all that the organisation had, and at the end this row.
alter table organizations add column deleting_since timestamptz;

create index organizations_to_delete on organizations (deleting_since) where deleting_since is not null;

-- Deleting a key looks for those that it replaced.
create index api_keys_by_replacement on api_keys (replaced_by) where replaced_by is not null;
