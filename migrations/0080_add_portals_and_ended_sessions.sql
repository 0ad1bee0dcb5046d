-- What an organisation's portal looks like, and which web pages may embed it.
create table portals (
    org_id uuid primary key references organizations (id),
    name text not null default '',
    -- Origins, such as https://app.example.com.
    origins text[] not null default '{}',
    -- A picture as a data URL.
    logo text,
    -- Colours as #rrggbb; null is the page's own.
    primary_color text,
    accent_color text,
    dark_primary_color text,
    dark_accent_color text
);

-- Sessions that were ended before their time. A session is a statement under a key, so nothing else is stored of it.
create table ended_sessions (
    -- Null for a session of the console.
    org_id uuid references organizations (id),
    -- A hash of the organisation and the tenant: the row outlives a tenant that is deleted, and must not tell its id.
    tenant_mark uuid,
    -- Null ends all sessions that were made up to then: of the tenant's portal or, without a tenant, of the organisation.
    session_id uuid,
    ended_at timestamptz not null default clock_timestamp(),
    -- Then the session would have ended anyway.
    keep_until timestamptz not null,
    check (session_id is not null or org_id is not null),
    check (tenant_mark is null or org_id is not null)
);

create unique index ended_sessions_by_owner on ended_sessions (org_id, tenant_mark, session_id) nulls not distinct;
create index ended_sessions_by_time on ended_sessions (ended_at);
create index ended_sessions_to_drop on ended_sessions (keep_until);
