-- What renders the body of an endpoint's webhooks in place of its format, and the media type of that body, which is
-- `application/json` where it is null.
alter table endpoints
    add column template text,
    add column template_content_type text,
    add constraint endpoints_template_check
        check (template is null or kind = 'push' and octet_length(template) between 1 and 16384);
