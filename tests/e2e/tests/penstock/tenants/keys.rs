//! Keys of tenants, as their organisation handles them.

use e2e::{Organization, World};
use reqwest::Method;
use serde_json::json;

use super::{bound, tenant};
use crate::calls::{request, status};
use crate::world;

/// Gives a tenant, or the organisation itself, as many valid keys as it may have beside one.
async fn fill(world: &World, organization: &Organization, tenant: Option<&str>) {
    let fill = "insert into api_keys (id, org_id, name, hash, scopes, tenant)
                select md5(coalesce($2, '') || n), $1, 'k', '', '{}', $2 from generate_series(1, 999) n";
    let fill = sqlx::query(fill).bind(organization.id).bind(tenant);
    fill.execute(world.database()).await.expect("Postgres runs");
}

#[tokio::test]
async fn an_organisation_replaces_a_tenants_key_within_the_limit_of_that_tenant() {
    let world = world().await;
    let organization = world.organization().await;
    for uid in ["one", "two"] {
        tenant(&world, &organization, uid, json!({})).await;
    }
    let (of_one, of_two) = (
        bound(&world, &organization, "one").await,
        bound(&world, &organization, "two").await,
    );
    for owner in [Some("one"), None] {
        fill(&world, &organization, owner).await;
    }
    let rotate = async |old: &Organization, overlap: u32| {
        let path = format!("/v1/keys/{}/rotate", &old.key[8..24]);
        let body = json!({"overlap_seconds": overlap});
        let rotate = request(&world, 0, Method::POST, &path, &organization.key).json(&body);
        status(rotate).await.as_u16()
    };
    assert_eq!(rotate(&of_one, 60).await, 409, "it would be one key too many");
    assert_eq!(rotate(&of_one, 0).await, 201);
    assert_eq!(
        rotate(&of_two, 60).await,
        201,
        "the organisation's keys do not count"
    );
    world.finish().await;
}
