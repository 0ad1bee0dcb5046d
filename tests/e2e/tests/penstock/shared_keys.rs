//! What replicas know of keys together: restarts without argon2, floods of made-up keys, and servers that are
//! away.

use async_nats::jetstream;
use e2e::{Event, Organization, STOP_DEADLINE, Shutdown, World, until};
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use reqwest::{Method, StatusCode};
use serde_json::json;

use crate::keys::{request, status, tried, until_refused};
use crate::setup;

const BUCKET: &str = "KEYS";

async fn bucket(world: &World) -> jetstream::kv::Store {
    let client = async_nats::connect(world.stack().nats_url()).await;
    let jetstream = jetstream::new(client.expect("nats-server runs"));
    jetstream
        .get_key_value(BUCKET)
        .await
        .expect("ingest-api makes the bucket")
}

async fn until_shared(world: &World, count: usize) {
    let bucket = bucket(world).await;
    until("verified keys to be shared", async || {
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

async fn restart(world: &mut World, index: usize) {
    let ingest = world.stack_mut().ingest_mut(index);
    let ended = ingest.terminate(STOP_DEADLINE).await.expect("ingest-api runs");
    assert!(ended.success());
    ingest.start().await.expect("ingest-api starts again");
}

async fn send(world: &World, key: &str) -> StatusCode {
    let event = Event::new("a", "1").body();
    let post = request(world, 0, Method::POST, "/v1/events", key);
    status(post.header("content-type", "application/json").body(event)).await
}

#[tokio::test]
async fn a_restart_with_many_keys_in_use_verifies_none_of_them_again() {
    const KEYS: usize = 200;
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let body = json!({"name": "x", "scopes": ["ingest"]});
    let keys = join_all((0..KEYS).map(async |_| {
        let made = request(&world, 0, Method::POST, "/v1/keys", &organization.key);
        until("a key to be made", async || {
            let response = made.try_clone().unwrap().json(&body).send().await.unwrap();
            let status = response.status();
            let made: serde_json::Value = response.json().await.unwrap();
            made["key"].as_str().map(str::to_owned).ok_or(status.to_string())
        })
        .await
    }))
    .await;
    for key in &keys {
        assert_eq!(tried(&world, 0, key).await, 404);
    }
    until_shared(&world, KEYS + 1).await;
    restart(&mut world, 0).await;
    for answer in join_all(keys.iter().map(|key| tried(&world, 0, key))).await {
        assert_eq!(answer, 404);
    }
    until("every key to be confirmed", async || {
        // What waits too long to be confirmed is trusted meanwhile, and asked for again with its next use.
        join_all(keys.iter().map(|key| tried(&world, 0, key))).await;
        match world.metric(0, "key_lookups_total").await {
            200.. => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    assert_eq!(world.metric(0, "key_verifications_total").await, 0);
    world.finish().await;
}

/// A key with an id and a secret of the right form, and a check that is not ours.
fn made_up(number: u64) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let mut state = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut letters = (0..80).map(|_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        char::from(LETTERS[usize::try_from(state >> 59).expect("five bits are left")])
    });
    let id: String = letters.by_ref().take(16).collect();
    format!("pk_live_{id}_{}", letters.collect::<String>())
}

#[tokio::test]
async fn made_up_keys_cost_neither_a_look_up_nor_argon2() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    let counts = async || {
        let (lookups, argon2) = ("key_lookups_total", "key_verifications_total");
        (world.metric(0, lookups).await, world.metric(0, argon2).await)
    };
    let before = counts().await;
    let (head, last) = organization.key.split_at(organization.key.len() - 1);
    let altered = format!("{head}{}", if last == "a" { "b" } else { "a" });
    for round in 0..10 {
        let keys = (0..50).map(|number| made_up(round * 50 + number));
        let keys: Vec<_> = keys.chain([altered.clone()]).collect();
        for answer in join_all(keys.iter().map(|key| tried(&world, 0, key))).await {
            assert_eq!(answer, 401);
        }
        assert_eq!(tried(&world, 0, &organization.key).await, 404);
    }
    assert_eq!(counts().await, before);
    assert_eq!(world.metric(0, "key_forgeries_total").await, 510);
    world.finish().await;
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
    restart(&mut world, 0).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 401);
    assert_eq!(tried(&world, 0, &other.key).await, 404);
    assert_eq!(
        world.metric(0, "key_verifications_total").await,
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
    restart(&mut world, 0).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    assert_eq!(tried(&world, 0, &revoked.key).await, 503);
    world.stack_mut().postgres_mut().start().await.unwrap();
    until_refused(&world, 0, &revoked.key).await;
    world.finish().await;
}

/// Revokes behind the services' back: as if the signal had been lost.
async fn revoke_in_the_table(world: &World, organization: &Organization) {
    let revoke = sqlx::query("update api_keys set revoked_at = now() where id = $1");
    let done = revoke
        .bind(&organization.key[8..24])
        .execute(world.database())
        .await;
    assert_eq!(done.expect("Postgres runs").rows_affected(), 1);
}

#[tokio::test]
async fn a_replica_that_was_cut_off_asks_for_its_keys_again() {
    let mut world = setup().replicas(1, 0).start().await;
    let (organization, revoked) = (world.organization().await, world.organization().await);
    for key in [&organization.key, &revoked.key] {
        assert_eq!(tried(&world, 0, key).await, 404);
    }
    world.stack_mut().nats_mut().kill().await.unwrap();
    until("the connection to be lost", async || {
        match world.metric(0, "rate_limit_cut_off").await {
            1 => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    revoke_in_the_table(&world, &revoked).await;
    assert_eq!(tried(&world, 0, &revoked.key).await, 404, "nobody has told it");
    world.stack_mut().nats_mut().start().await.unwrap();
    until_refused(&world, 0, &revoked.key).await;
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    assert_eq!(world.metric(0, "key_verifications_total").await, 2);
    world.finish().await;
}

#[tokio::test]
async fn a_key_in_use_is_asked_for_again_and_ends_when_postgres_does_not_answer() {
    let mut world = setup()
        .replicas(1, 0)
        .ingest_env("KEY_CACHE_TTL", "2s")
        .start()
        .await;
    let (organization, revoked) = (world.organization().await, world.organization().await);
    assert_eq!(tried(&world, 0, &revoked.key).await, 404);
    revoke_in_the_table(&world, &revoked).await;
    until_refused(&world, 0, &revoked.key).await;
    assert_eq!(send(&world, &organization.key).await, 202);
    world
        .stack_mut()
        .postgres_mut()
        .stop(Shutdown::Fast)
        .await
        .unwrap();
    until("the key to end", async || {
        match tried(&world, 0, &organization.key).await {
            StatusCode::SERVICE_UNAVAILABLE => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    world.stack_mut().postgres_mut().start().await.unwrap();
    until("the key to work again", async || {
        match tried(&world, 0, &organization.key).await {
            StatusCode::NOT_FOUND => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    world.stack_mut().add_worker().await.unwrap();
    world.finish().await;
}
