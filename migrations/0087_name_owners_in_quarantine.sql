-- Whose it is, as `org_id` and this: the deletion of an organisation or a tenant removes it. What is the organisation's own has
-- no tenant. What does not say whose it is has neither, and so has what earlier releases set aside.
alter table quarantine add column tenant text;

create index quarantine_by_owner on quarantine (org_id, tenant) where org_id is not null;
