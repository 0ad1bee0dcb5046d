-- The endpoints whose pending deliveries keep a day of events longer than it should be, and whose owners were told.
create table kept_day_notices (
    endpoint_id uuid not null,
    org_id uuid not null,
    day date not null,
    primary key (endpoint_id, day)
);

create index kept_day_notices_by_organization on kept_day_notices (org_id);
create index kept_day_notices_by_day on kept_day_notices (day);
