-- How far the payloads of an organisation that keeps them for a shorter time than its events are removed, so that workers do not read
-- all its old events each hour. A worker of the release before reads them all the same.
create table payload_removals (
    org_id uuid primary key references organizations (id) on delete cascade,
    -- No payload is left of events that were accepted before, but for those that were stored since.
    removed_before timestamptz not null,
    -- When a worker has looked for this.
    looked_at timestamptz not null
);
