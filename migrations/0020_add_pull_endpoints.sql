-- A pull endpoint has no URL: its owner fetches its deliveries. A worker of a release that knows only URLs stops at
-- such a row rather than fan out without it, so replace the workers before the first one is created.
alter table endpoints
    add column kind text not null default 'push' check (kind in ('push', 'pull')),
    alter column url drop not null,
    add constraint endpoints_url_check check ((kind = 'push') = (url is not null));

-- Deliveries to pull stand in an index of their own: however many wait there, workers, which walk over the other
-- one, never meet them.
alter table deliveries add column pull boolean not null default false;

drop index deliveries_due;
create index deliveries_to_push on deliveries (endpoint_id, next_attempt_at) where status = 'pending' and not pull;
create index deliveries_to_pull on deliveries (endpoint_id, next_attempt_at) where status = 'pending' and pull;
