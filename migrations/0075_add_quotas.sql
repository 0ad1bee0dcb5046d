-- How many events a month an organisation, or one of its tenants, may send. Those that it sends beyond are taken (`warn`) or
-- refused until the month is over (`refuse`).
alter table organizations
    add column events_per_month bigint check (events_per_month > 0),
    add column quota_action text not null default 'warn' check (quota_action in ('warn', 'refuse'));

alter table tenants
    add column events_per_month bigint check (events_per_month > 0),
    add column quota_action text not null default 'warn' check (quota_action in ('warn', 'refuse'));

create index organizations_with_quota on organizations (id) where events_per_month is not null;
create index tenants_with_quota on tenants (org_id, uid) where events_per_month is not null;

-- The audit log tells of the new columns too.
drop trigger write_audit_log on organizations;
create trigger write_audit_log
    after insert or delete or update of name, tier, rate_limit_per_minute, payload_retention_days, deleting_since,
                                        events_per_month, quota_action
    on organizations
    for each row execute function write_audit_log('organization');

-- How much of its quota each has used in the present month, as workers have measured it. Replicas of the API read those that
-- are refused.
create table quota_uses (
    org_id uuid not null,
    -- Empty: the quota of the organisation as a whole.
    tenant text collate "C" not null,
    -- Its first day, in UTC.
    month date not null,
    events_per_month bigint not null,
    -- Events accepted in the month: those of the hours before `base`, which are counted in `usage`, and the `running` ones, from
    -- there on and before `counted_to`.
    used bigint not null,
    base timestamptz not null,
    running bigint not null,
    counted_to timestamptz not null,
    -- Percent of the quota that are reached, of those that are told.
    level smallint not null generated always as (
        case when used >= events_per_month then 100 when used >= events_per_month * 0.8 then 80 else 0 end
    ) stored,
    -- The highest that was told.
    told smallint not null default 0,
    -- Its events are refused before this time; null is not at all.
    refused_until timestamptz,
    primary key (org_id, tenant)
);

create index quota_uses_refused on quota_uses (refused_until) where refused_until is not null;

-- An operational event may be about something else than an endpoint. Then its endpoint is one that never is, for a worker of an
-- earlier release, which expects one; and its tenant stands here.
alter table operational_events
    alter column endpoint_id set default '00000000-0000-0000-0000-000000000000',
    add column tenant text collate "C";

-- Whether an operational event that is about no endpoint has a taker: an endpoint that gets the events of this tenant, or of none,
-- and names the type.
create function is_notice_wanted(org uuid, told text, of_tenant text) returns boolean
language sql stable as $$
    select exists (
        select from endpoints e cross join unnest(e.event_types) as pattern
        where e.org_id = org and (e.all_tenants or e.tenant is not distinct from of_tenant)
          and e.status = 'enabled' and e.tenant_enabled and e.deleted_at is null
          and pattern <> '*'
          and case when pattern like '%*' then starts_with(told, rtrim(pattern, '*')) else pattern = told end
    )
$$;
