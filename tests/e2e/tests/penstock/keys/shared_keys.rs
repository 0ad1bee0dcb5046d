//! What replicas know of keys together: restarts without argon2, and without Postgres.

use std::time::Instant;

use async_nats::jetstream;
use e2e::{DEADLINE, STOP_DEADLINE, Shutdown, World, until, until_within};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use reqwest::Method;
use serde_json::json;

use crate::calls::{make, request, status, text, tried, until_refused};
use crate::setup;

const BUCKET: &str = "KEYS";

/// Requests after a restart that are open at once.
const AT_ONCE: usize = 32;

async fn bucket(world: &World) -> jetstream::kv::Store {
    let client = async_nats::connect(world.stack().nats_url()).await;
    let jetstream = jetstream::new(client.expect("nats-server runs"));
    jetstream
        .get_key_value(BUCKET)
        .await
        .expect("ingest-api makes the bucket")
}

pub(crate) async fn until_shared(world: &World, count: usize) {
    until_shared_in_use(world, count, &[]).await;
}

/// The same while these keys are used: what could not be shared in time is offered again, half of `KEY_CACHE_TTL` later.
async fn until_shared_in_use(world: &World, count: usize, used: &[String]) {
    let bucket = bucket(world).await;
    until_within(DEADLINE * 4, "verified keys to be shared", async || {
        for key in used {
            assert_eq!(tried(world, 0, key).await, 404);
        }
        let keys = bucket.keys().await.map_err(|error| error.to_string())?;
        let shared = keys.count().await;
        if shared == count {
            Ok(())
        } else {
            Err(shared.to_string())
        }
    })
    .await;
}

async fn restart(world: &mut World) {
    let ingest = world.stack_mut().ingest_mut(0);
    let ended = ingest.terminate(STOP_DEADLINE).await.expect("ingest-api runs");
    assert!(ended.success());
    ingest.start().await.expect("ingest-api starts again");
}

/// Makes and uses keys, each of which costs argon2 twice, and returns them after that which made them.
async fn keys_in_use(world: &World, count: usize) -> Vec<String> {
    let maker = world.organization().await.key;
    let body = json!({"name": "x", "scopes": ["ingest"]});
    let made = stream::iter(0..count).map(async |_| make(world, &maker, &body).await);
    let made: Vec<_> = made.buffer_unordered(2).collect().await;
    let made = made.iter().map(|made| text(made, "key").to_owned());
    let keys: Vec<_> = std::iter::once(maker).chain(made).collect();
    for key in &keys {
        assert_eq!(tried(world, 0, key).await, 404);
    }
    keys
}

/// How many keys are verified again when all are used after a restart.
async fn verified_after_a_restart(world: &mut World, keys: &[String]) -> u64 {
    restart(world).await;
    let world = &*world;
    let rush = Instant::now();
    let answers = stream::iter(keys).map(async |key| tried(world, 0, key).await);
    let answers: Vec<_> = answers.buffer_unordered(AT_ONCE).collect().await;
    assert!(answers.iter().all(|answer| *answer == 404), "{answers:?}");
    println!(
        "{} keys, {AT_ONCE} at once, after a restart: answered in {:?}",
        keys.len(),
        rush.elapsed()
    );
    until("every key to be confirmed", async || {
        // What waits too long to be confirmed is trusted meanwhile, and asked for again with its next use.
        join_all(keys.iter().map(|key| tried(world, 0, key))).await;
        match world.metric(0, "penstock_key_lookups_total").await {
            lookups if lookups >= keys.len() as u64 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    world.metric(0, "penstock_key_verifications_total").await
}

async fn a_restart_verifies_none_of(count: usize) {
    let setup = setup().replicas(1, 0).ingest_env("KEY_CACHE_TTL", "1m");
    let mut world = setup.start().await;
    let keys = keys_in_use(&world, count).await;
    until_shared_in_use(&world, keys.len(), &keys).await;
    // The share is done without where it does not answer soon, as on a machine that stood still.
    until_within(
        DEADLINE * 4,
        "a restart that verifies none",
        async || match verified_after_a_restart(&mut world, &keys).await {
            0 => Ok(()),
            some => Err(format!("{some} verified")),
        },
    )
    .await;
    world.finish().await;
}

#[tokio::test]
async fn a_restart_with_many_keys_in_use_verifies_none_of_them_again() {
    a_restart_verifies_none_of(200).await;
}

#[tokio::test]
#[ignore = "argon2 runs 4 000 times before it begins"]
async fn a_restart_with_two_thousand_keys_in_use_verifies_none_of_them_again() {
    a_restart_verifies_none_of(2_000).await;
}

#[tokio::test]
async fn what_is_put_into_the_bucket_by_others_opens_nothing() {
    let mut world = setup().replicas(1, 0).start().await;
    let (organization, other) = (world.organization().await, world.organization().await);
    for key in [&organization.key, &other.key] {
        assert_eq!(tried(&world, 0, key).await, 404);
    }
    until_shared(&world, 2).await;
    let (id, other_id) = (organization.key[8..24].to_owned(), &other.key[8..24]);
    let bucket = bucket(&world).await;
    let proof = bucket.get(id.as_str()).await.unwrap().unwrap();
    let text = String::from_utf8_lossy(&proof).into_owned();
    assert!(
        !text.contains(&organization.key[25..]) && !text.contains("argon2"),
        "{text}"
    );

    // An old entry, put back after the key was revoked, with and without Postgres to ask.
    let revoke = request(
        &world,
        0,
        Method::DELETE,
        &format!("/v1/keys/{id}"),
        &organization.key,
    );
    assert_eq!(status(revoke).await, 204);
    assert_eq!(bucket.get(id.as_str()).await.unwrap(), None);
    bucket.put(&id, proof.clone()).await.unwrap();
    // An entry under another key's name.
    bucket.put(other_id, proof).await.unwrap();
    restart(&mut world).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 401);
    assert_eq!(tried(&world, 0, &other.key).await, 404);
    assert_eq!(
        world.metric(0, "penstock_key_verifications_total").await,
        1,
        "the other key was verified again"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_starts_without_postgres_accepts_the_keys_in_use() {
    let mut world = setup().replicas(1, 0).start().await;
    let (organization, revoked) = (world.organization().await, world.organization().await);
    for key in [&organization.key, &revoked.key] {
        assert_eq!(tried(&world, 0, key).await, 404);
    }
    until_shared(&world, 2).await;
    let id = &revoked.key[8..24];
    let revoke = request(&world, 0, Method::DELETE, &format!("/v1/keys/{id}"), &revoked.key);
    assert_eq!(status(revoke).await, 204);
    world
        .stack_mut()
        .postgres_mut()
        .stop(Shutdown::Fast)
        .await
        .unwrap();
    restart(&mut world).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    assert_eq!(tried(&world, 0, &revoked.key).await, 503);
    world.stack_mut().postgres_mut().start().await.unwrap();
    until_refused(&world, 0, &revoked.key).await;
    world.finish().await;
}
