-- The one webhook that an organisation configures through the Zapier Triggers API.
alter table endpoints add column zapier boolean not null default false;

create unique index endpoints_of_zapier on endpoints (org_id) where zapier and deleted_at is null;
