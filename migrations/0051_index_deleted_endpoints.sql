-- Endpoints that were deleted lately are looked for every second.
create index endpoints_by_deletion on endpoints (deleted_at) where deleted_at is not null;
