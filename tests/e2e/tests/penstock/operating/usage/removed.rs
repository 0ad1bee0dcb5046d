//! The usage of what is removed: of days, of tenants and of organisations.

use e2e::until;
use reqwest::Method;
use serde_json::json;

use super::{COUNTED_BEFORE, NOTED, counted, counts, expected, filled, until_usage_is, usage};
use crate::calls::{self, request, status};
use crate::operating::organizations;
use crate::operating::retention::{disabled_endpoint, make_partitions, old_event, until_dropped};
use crate::setup;
use crate::tenants::deletion::{self, rows_with};

#[tokio::test]
async fn a_day_is_dropped_when_it_is_counted_and_its_usage_stays() {
    let setup = setup().replicas(1, 0).worker_env("RETENTION", "10days");
    let mut world = setup.start().await;
    let organization = world.organization().await;
    let endpoint = disabled_endpoint(&mut world, &organization).await;
    make_partitions(&world, 14).await;
    for status in ["dead", "delivered", "delivered"] {
        old_event(&world, &organization, endpoint, 14, status).await;
    }
    // Another hour of that day.
    world
        .execute(
            "update events set accepted_at = date_trunc('day', accepted_at, 'UTC') + interval '90 minutes';
             update deliveries set accepted_at = date_trunc('day', accepted_at, 'UTC') + interval '90 minutes';
             update attempts set accepted_at = date_trunc('day', accepted_at, 'UTC') + interval '90 minutes'",
        )
        .await;
    old_event(&world, &organization, endpoint, 14, "dead").await;
    let old = "insert into usage (org_id, day, tenant, hour, accepted, bytes, delivered, attempts, dead)
               select id, (now() at time zone 'UTC')::date - 401, '', 0, 1, 1, 1, 1, 1 from organizations";
    sqlx::query(old)
        .execute(world.database())
        .await
        .expect("Postgres runs");
    world.stack_mut().add_worker().await.expect("a worker starts");
    until_dropped(&mut world, 14, 0).await;
    let query = format!("from={}&to={}", world.day(500).await, world.day(13).await);
    until("its hours to be one row", async || {
        let hours = sqlx::query_scalar("select hour from usage order by hour");
        let hours: Vec<i16> = hours
            .fetch_all(world.database())
            .await
            .map_err(|error| error.to_string())?;
        if hours == [0] {
            Ok(())
        } else {
            Err(format!("{hours:?}"))
        }
    })
    .await;
    let page = calls::json(usage(&world, &organization.key, &query)).await;
    assert_eq!(counted(&page), counts([("", [4, 12, 2, 0, 2])]));
    assert_eq!(page["data"][0]["day"], json!(world.day(14).await));
    world.finish().await;
}

#[tokio::test]
async fn a_deleted_tenants_usage_becomes_that_of_no_tenant_and_a_deleted_organizations_is_gone() {
    let mut world = setup().worker_env("RETRY_ATTEMPTS", "2").start().await;
    let (organization, _) = filled(&mut world).await;
    world.restart_worker().await;
    until_usage_is(&world, &organization, &expected()).await;
    let path = "/v1/tenants/one";
    let delete = request(&world, 0, Method::DELETE, path, &organization.key);
    assert_eq!(status(delete).await, 202);
    deletion::until_gone(&world, &organization, path).await;
    let left = counts([("", [5, 34, 4, 6, 1]), ("t,\"wo\"", [1, 6, 0, 2, 1])]);
    until_usage_is(&world, &organization, &left).await;
    // The same when its hours are counted once more, but for the bytes of what is gone.
    let changed =
        "insert into usage_recounts select hour from usage_hours where hour > now() - interval '1 day'";
    world.execute(changed).await;
    world.execute(COUNTED_BEFORE).await;
    world.restart_worker().await;
    world.until_count_is("all to be counted again", NOTED, 0).await;
    until_usage_is(&world, &organization, &left).await;

    let delete = organizations::admin(&world, &organization, Method::DELETE, "");
    assert_eq!(status(delete).await, 202);
    organizations::until_gone(&world, &organization).await;
    let id = organization.id.to_string();
    let rows = rows_with(&world, &[id.as_str()]).await;
    assert!(rows.iter().all(|row| row.starts_with("audit_log:")), "{rows:#?}");
    world.finish().await;
}
