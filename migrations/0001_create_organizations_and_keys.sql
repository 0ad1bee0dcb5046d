create table organizations (
    id uuid primary key,
    name text not null check (length(name) between 1 and 200),
    tier text not null check (tier in ('free', 'pro', 'business', 'enterprise')),
    -- Overrides the tier's limit.
    rate_limit_per_minute bigint check (rate_limit_per_minute > 0),
    created_at timestamptz not null default now()
);

create table api_keys (
    -- The public part of the key; the secret part is only here as its argon2id hash.
    id text primary key,
    org_id uuid not null references organizations (id),
    name text not null,
    hash text not null,
    scopes text[] not null,
    created_at timestamptz not null default now(),
    expires_at timestamptz,
    revoked_at timestamptz
);

create index api_keys_by_org on api_keys (org_id, created_at);
