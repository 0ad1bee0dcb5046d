-- Deliveries that are leased to those who pull, also when the lease has run out: few of those that wait.
create index deliveries_leased_to_pull on deliveries (endpoint_id, next_attempt_at)
    where status = 'pending' and pull and lease_token is not null;

-- Pull endpoints whose deliveries come to an end without being acknowledged.
create index endpoints_with_pull_limits on endpoints (id)
    where kind = 'pull' and deleted_at is null and (retry_attempts is not null or retry_max_age_ms is not null);
