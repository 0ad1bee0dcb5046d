-- What webhooks show besides their signatures. As with methods and signatures, the format of an endpoint that has some ends with
-- `/2`, so that a release that does not read them stops.
alter table endpoints
    -- Sealed; null is none.
    add column auth bytea,
    -- Of a client certificate.
    add column certificate_expires_at timestamptz,
    drop constraint endpoints_signing_check,
    add constraint endpoints_signing_check
        check (format like '%/2' or (method = 'POST' and signatures is null and auth is null));

create index endpoints_by_certificate on endpoints (certificate_expires_at)
    where certificate_expires_at is not null and deleted_at is null;

-- The certificates whose end was told to their owners. Apart from the endpoints, because all workers read every change of those.
create table certificate_notices (
    endpoint_id uuid primary key references endpoints (id),
    org_id uuid not null,
    expires_at timestamptz not null
);
