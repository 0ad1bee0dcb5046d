//! The deletion of a tenant with very many rows, step by step, while workers die or come late.

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::json;

use super::deletion::{rows_with, until_gone};
use super::tenant;
use crate::calls::{self, request, status};
use crate::faults::held_up::{lock, until_waits};
use crate::operating::organizations::{note_steps, steps};
use crate::setup;

const PATH: &str = "/v1/tenants/uid-canary";

/// Begins to delete a tenant that has more rows of each kind than go in two steps. Each of its endpoints and keys has an entry in the
/// audit log. There is no worker yet.
async fn begin(world: &World, organization: &Organization) {
    tenant(world, organization, "uid-canary", json!({})).await;
    let rows = format!(
        "insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, tenant, deleted_at)
         select gen_random_uuid(), '{0}', 'pull', '', 1, 1000, 'uid-canary', now() from generate_series(1, 1200);
         insert into api_keys (id, org_id, name, hash, scopes, tenant, revoked_at)
         select lpad(n::text, 16, 'a'), '{0}', 'k', 'x', '{{ingest}}', 'uid-canary', now() from generate_series(1, 1200) n;
         insert into usage (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
         select '{0}', current_date - n / 24, 'uid-canary', n % 24, 1, 1, 1, 1, 0 from generate_series(1, 1200) n",
        organization.id
    );
    world.execute(rows).await;
    delete(world, organization, PATH).await;
}

async fn delete(world: &World, organization: &Organization, path: &str) {
    let deleted = request(world, 0, Method::DELETE, path, &organization.key);
    assert_eq!(status(deleted).await, 202);
}

/// Waits until the tenant is gone. What it has used is then the organisation's.
async fn until_forgotten(world: &World, organization: &Organization) {
    until_gone(world, organization, PATH).await;
    let left = rows_with(world, &["uid-canary"]).await;
    assert!(left.is_empty(), "{} rows, such as {:?}", left.len(), left[0]);
    let used = "select sum(bytes)::bigint from usage where tenant = ''";
    assert_eq!(world.count(used).await, 1_200);
}

#[tokio::test]
async fn the_rows_of_a_large_tenant_are_removed_in_short_steps() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    begin(&world, &organization).await;
    let changes = [
        ("api_keys", "update"),
        ("audit_log", "update"),
        ("endpoints", "update"),
        ("usage", "delete"),
    ];
    note_steps(&world, &changes).await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_forgotten(&world, &organization).await;
    let expected = changes.map(|(place, _)| (place.to_owned(), true, true));
    assert_eq!(steps(&world).await, expected);
    world.finish().await;
}

#[tokio::test]
async fn another_worker_goes_on_where_one_was_cut_off_between_two_steps() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    begin(&world, &organization).await;
    // A worker comes to the log when one more step is enough for all else.
    let first = "select from audit_log where tenant = 'uid-canary' order by at, id limit 1 for update";
    let holding = lock(&world, first).await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_waits(&world, "delivery-worker").await;
    let counts = "select count(*) from usage where tenant = 'uid-canary'";
    assert_eq!(world.count(counts).await, 200);
    let shown = request(&world, 0, Method::GET, PATH, &organization.key);
    assert_eq!(calls::json(shown).await["status"], "deleting");
    world.stack_mut().worker_mut(0).kill().await.expect("it runs");
    holding.rollback().await.expect("Postgres runs");
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_forgotten(&world, &organization).await;
    world.finish().await;
}

#[tokio::test]
async fn a_worker_that_comes_late_leaves_a_tenant_alone_that_was_made_again() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    for uid in ["again", "other"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    delete(&world, &organization, "/v1/tenants/again").await;
    let mut holding = lock(&world, "select from organizations for no key update").await;
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_waits(&world, "delivery-worker").await;
    // What another worker and a client do meanwhile.
    let again = sqlx::raw_sql(
        "delete from tenants where uid = 'again';
         insert into tenants (org_id, uid) select id, 'again' from organizations;
         insert into endpoints (id, org_id, kind, secret, max_in_flight, timeout_ms, tenant)
         select gen_random_uuid(), id, 'pull', '', 1, 1000, 'again' from organizations",
    );
    let again = again.execute(&mut *holding).await;
    again.expect("Postgres takes it");
    holding.commit().await.expect("Postgres runs");
    // The same worker removes this one afterwards.
    delete(&world, &organization, "/v1/tenants/other").await;
    until_gone(&world, &organization, "/v1/tenants/other").await;
    let shown = request(&world, 0, Method::GET, "/v1/tenants/again", &organization.key);
    assert_eq!(calls::json(shown).await["status"], "enabled");
    let its = "select count(*) from endpoints where tenant = 'again' and deleted_at is null";
    assert_eq!(world.count(its).await, 1);
    world.finish().await;
}
