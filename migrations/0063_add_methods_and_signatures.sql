-- How webhooks are sent: the method, and the signatures beside or in place of Standard Webhooks.
--
-- A release that does not read these columns would send what the endpoint's owner did not ask for. So `/2` stands behind the
-- format of an endpoint that uses them: such a release meets a format that it does not know, and stops with its name.
alter table endpoints
    add column method text not null default 'POST' check (method in ('POST', 'PUT')),
    -- Schemes with their secrets, sealed; null is Standard Webhooks alone.
    add column signatures bytea,
    drop constraint endpoints_format_check,
    add constraint endpoints_format_check check (format ~ '^(standard|cloudevents|raw)(/2)?$'),
    add constraint endpoints_signing_check
        check (format like '%/2' or (method = 'POST' and signatures is null));
