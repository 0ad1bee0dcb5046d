-- `delivery-worker reseal` changes how secrets are encrypted and nothing that anyone sees: no worker need read the endpoint
-- again, and the version that `If-Match` names stays.
create or replace function count_endpoint_change() returns trigger language plpgsql as $$
begin
    if current_setting('penstock.resealing', true) = 'on' then
        return new;
    end if;
    update endpoint_version set version = version + 1 returning version into new.version;
    new.updated_at := now();
    return new;
end $$;
