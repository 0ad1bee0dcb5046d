-- A count of pending deliveries ends one beyond 10 000 rows, so that it tells whether there are more. The rest of the function is as
-- `count_disabled_tenants` has left it.
do $$
begin
    execute replace(pg_get_functiondef('count_backlog()'::regprocedure), 'limit 10000', 'limit 10001');
end $$;
