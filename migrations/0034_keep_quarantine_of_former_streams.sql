-- A stream that was deleted and made again counts its messages from 1: the same place may hold something else, and both
-- are kept. What is the same, bytes and all, is set aside once.
alter table quarantine
    add column digest bytea not null generated always as (sha256(bytes)) stored,
    drop constraint quarantine_pkey,
    add primary key (stream, sequence, position, digest);
