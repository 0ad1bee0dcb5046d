//! Replicas that do not hear of revocations.

use std::time::{Duration, Instant};

use e2e::{Organization, Shutdown, World, until};
use reqwest::{Method, StatusCode};

use super::TTL;
use crate::calls::{last_admitted, request, status, tried, until_refused};
use crate::setup;

/// Revokes behind the services' back: as if the signal had been lost.
async fn revoke_in_the_table(world: &World, organization: &Organization) {
    let revoke = sqlx::query("update api_keys set revoked_at = now() where id = $1");
    let done = revoke
        .bind(&organization.key[8..24])
        .execute(world.database())
        .await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

async fn until_cut_off(world: &World, index: usize) {
    until("the connection to be lost", async || {
        match world.metric(index, "penstock_rate_limit_cut_off").await {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
}

#[tokio::test]
async fn without_nats_a_revoked_key_is_refused_everywhere_within_the_caches_time_to_live() {
    let setup = setup().replicas(2, 0);
    let mut world = setup
        .ingest_env("KEY_CACHE_TTL", &format!("{}s", TTL.as_secs()))
        .start()
        .await;
    let (owner, revoked) = (world.organization().await, world.organization().await);
    world.stack_mut().nats_mut().kill().await.unwrap();
    for index in [0, 1] {
        until_cut_off(&world, index).await;
        for organization in [&owner, &revoked] {
            assert_eq!(tried(&world, index, &organization.key).await, 404);
        }
    }
    let path = format!("/v1/keys/{}", &revoked.key[8..24]);
    let revoke = request(&world, 0, Method::DELETE, &path, &revoked.key);
    assert_eq!(status(revoke).await, 204);
    let since = Instant::now();
    assert_eq!(
        tried(&world, 0, &revoked.key).await,
        401,
        "the replica that did it knows"
    );
    let time = last_admitted(&world, 1, &revoked.key, since).await;
    println!("last let in by the other replica after {time:?}");
    assert!(time < TTL, "{time:?}");
    assert_eq!(tried(&world, 1, &owner.key).await, 404);
    world.stack_mut().nats_mut().start().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_was_cut_off_asks_for_its_keys_again() {
    let mut world = setup().replicas(1, 0).start().await;
    let (organization, revoked) = (world.organization().await, world.organization().await);
    for key in [&organization.key, &revoked.key] {
        assert_eq!(tried(&world, 0, key).await, 404);
    }
    world.stack_mut().nats_mut().kill().await.unwrap();
    until_cut_off(&world, 0).await;
    revoke_in_the_table(&world, &revoked).await;
    world.stack_mut().nats_mut().start().await.unwrap();
    until_refused(&world, 0, &revoked.key).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    assert_eq!(world.metric(0, "penstock_key_verifications_total").await, 2);
    world.finish().await;
}

#[tokio::test]
async fn a_key_in_use_is_asked_for_again_and_ends_when_postgres_does_not_answer_for_too_long() {
    let setup = setup().replicas(1, 0);
    let mut world = setup
        .ingest_env("KEY_CACHE_TTL", &format!("{}s", TTL.as_secs()))
        .ingest_env("KEY_OUTAGE_TTL", &format!("{}s", TTL.as_secs()))
        .start()
        .await;
    let (organization, revoked) = (world.organization().await, world.organization().await);
    assert_eq!(tried(&world, 0, &revoked.key).await, 404);
    revoke_in_the_table(&world, &revoked).await;
    until_refused(&world, 0, &revoked.key).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    world
        .stack_mut()
        .postgres_mut()
        .stop(Shutdown::Fast)
        .await
        .unwrap();
    let stopped = Instant::now();
    let mut last_admitted = Duration::ZERO;
    until("the key to end", async || {
        let begun = stopped.elapsed();
        match tried(&world, 0, &organization.key).await {
            StatusCode::SERVICE_UNAVAILABLE => Ok(()),
            other => {
                last_admitted = begun;
                Err(other.to_string())
            }
        }
    })
    .await;
    assert!(last_admitted < TTL, "{last_admitted:?}");
    world.stack_mut().postgres_mut().start().await.unwrap();
    until("the key to work again", async || {
        match tried(&world, 0, &organization.key).await {
            StatusCode::NOT_FOUND => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    world.finish().await;
}
