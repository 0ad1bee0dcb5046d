-- Most deliveries of a pull endpoint that are leased at once, to all its consumers together; null is no limit. Apart from
-- `max_in_flight`, which every endpoint has and which meant nothing for one that is pulled.
alter table endpoints add column max_leased integer check (max_leased > 0);
