//! Which keys are accepted while Postgres is away, and by a replica that was frozen.

mod frozen;

use std::time::{Duration, Instant};

use e2e::{DEADLINE, Link, Organization, STOP_DEADLINE, World, until, until_within};
use futures_util::{FutureExt as _, StreamExt as _};
use reqwest::{Method, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use crate::calls::{last_admitted, make, request, status, text, tried};
use crate::keys::shared_keys::until_shared;
use crate::{setup, two_replicas};

/// Within this time every replica refuses a revoked key.
const PROMISE: Duration = Duration::from_secs(1);

/// What `KEY_CACHE_TTL` is set to.
const TTL: Duration = Duration::from_secs(1);

const EVENT: &str = r#"{"type":"a","data":1}"#;

async fn sent(world: &World, index: usize, key: &str) -> StatusCode {
    let post = request(world, index, Method::POST, "/v1/events", key);
    let post = post.header("content-type", "application/json").body(EVENT);
    status(post).await
}

/// What a replica says to a key on a request that needs neither Postgres nor NATS: 422 to one that it trusts.
async fn judged(world: &World, index: usize, key: &str) -> StatusCode {
    let post = request(world, index, Method::POST, "/v1/events", key);
    status(post.json(&json!({}))).await
}

async fn revoke(world: &World, owner: &str, id: &str) {
    let revoke = request(world, 0, Method::DELETE, &format!("/v1/keys/{id}"), owner);
    assert_eq!(status(revoke).await, 204);
}

/// Two keys of one organisation: one that was used with both replicas, and one that was never used.
async fn used_and_unused(world: &World, owner: &Organization) -> [(String, String); 2] {
    let mut keys = Vec::new();
    for name in ["used", "unused"] {
        let made = make(
            world,
            &owner.key,
            &json!({"name": name, "scopes": ["ingest", "manage"]}),
        )
        .await;
        keys.push((text(&made, "id").to_owned(), text(&made, "key").to_owned()));
    }
    for index in [0, 1] {
        assert_eq!(sent(world, index, &keys[0].1).await, 202);
    }
    keys.try_into().expect("there are two")
}

#[tokio::test]
async fn while_postgres_hangs_keys_stay_valid_for_many_times_to_live_and_are_revoked_after_it() {
    let setup = setup().replicas(2, 1);
    let world = setup.ingest_env("KEY_CACHE_TTL", &humantime(TTL)).start().await;
    let owner = world.organization().await;
    let [(id, key), (_, unused)] = used_and_unused(&world, &owner).await;
    world.stack().postgres().freeze().unwrap();
    let frozen = Instant::now();
    while frozen.elapsed() < 8 * TTL {
        for index in [0, 1] {
            assert_eq!(
                sent(&world, index, &key).await,
                202,
                "after {:?}",
                frozen.elapsed()
            );
        }
    }
    let unknown = request(&world, 0, Method::GET, "/v1/events/none", &unused);
    let unknown = unknown.send().await.unwrap();
    let retry_after = unknown.headers().contains_key("retry-after");
    assert_eq!((unknown.status().as_u16(), retry_after), (503, true));
    assert_eq!(world.metric(0, "penstock_key_lookup_refusals_total").await, 1);
    world.stack().postgres().thaw().unwrap();
    until("Postgres to be asked again", async || {
        match tried(&world, 0, &unused).await {
            StatusCode::NOT_FOUND => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    revoke(&world, &unused, &id).await;
    let revoked = Instant::now();
    for index in [0, 1] {
        let time = last_admitted(&world, index, &key, revoked).await;
        assert!(time < PROMISE, "{time:?}");
    }
    world.finish().await;
}

fn humantime(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

#[tokio::test]
async fn a_replica_that_starts_late_in_an_outage_of_postgres_accepts_the_keys_in_use() {
    let setup = setup().replicas(2, 1);
    let mut world = setup.ingest_env("KEY_CACHE_TTL", &humantime(TTL)).start().await;
    let owner = world.organization().await;
    let [(_, key), _] = used_and_unused(&world, &owner).await;
    until_shared(&world, 2).await;
    world.stack().postgres().freeze().unwrap();
    let frozen = Instant::now();
    while frozen.elapsed() < 2 * TTL {
        assert_eq!(sent(&world, 1, &key).await, 202);
    }
    let ingest = world.stack_mut().ingest_mut(0);
    ingest.terminate(STOP_DEADLINE).await.expect("ingest-api runs");
    ingest.start().await.expect("ingest-api starts again");
    let started = Instant::now();
    while started.elapsed() < 3 * TTL {
        assert_eq!(sent(&world, 0, &key).await, 202);
    }
    world.stack().postgres().thaw().unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_replica_without_postgres_hears_of_revocations_and_forgets_them_by_no_restart() {
    let mut world = setup().replicas(1, 1).start().await;
    let link = Link::start(world.stack()).await;
    let replica = link.replica(world.stack());
    world.stack_mut().add_ingest_with(replica).await.unwrap();
    let owner = world.organization().await;
    let [(id, key), (_, unused)] = used_and_unused(&world, &owner).await;
    let [(_, other), _] = used_and_unused(&world, &owner).await;
    until_shared(&world, 3).await;
    link.cut_off();
    until("the replica to be without Postgres", async || {
        match tried(&world, 1, &unused).await {
            StatusCode::SERVICE_UNAVAILABLE => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    revoke(&world, &owner.key, &id).await;
    let revoked = Instant::now();
    loop {
        let begun = revoked.elapsed();
        if sent(&world, 1, &key).await != 202 {
            break;
        }
        assert!(begun < PROMISE, "{begun:?}");
    }
    assert_eq!(sent(&world, 1, &other).await, 202);
    let ingest = world.stack_mut().ingest_mut(1);
    ingest.terminate(STOP_DEADLINE).await.expect("ingest-api runs");
    ingest.start().await.expect("ingest-api starts again");
    assert_eq!(sent(&world, 1, &key).await, 503);
    assert_eq!(sent(&world, 1, &other).await, 202);
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_reaches_neither_postgres_nor_nats_trusts_no_key_and_with_nats_again_it_does() {
    let mut world = setup().replicas(2, 1).start().await;
    let owner = world.organization().await;
    let [(_, key), _] = used_and_unused(&world, &owner).await;
    until_shared(&world, 2).await;
    world.stack().postgres().freeze().unwrap();
    world.stack_mut().nats_mut().kill().await.unwrap();
    let becomes = async |world: &World, expected: u16| {
        until("a key to be trusted or not", async || {
            match judged(world, 1, &key).await.as_u16() {
                found if found == expected => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    };
    becomes(&world, 503).await;
    world.stack_mut().nats_mut().start().await.unwrap();
    becomes(&world, 422).await;
    until("events to be accepted", async || {
        match sent(&world, 1, &key).await {
            StatusCode::ACCEPTED => Ok(()),
            other => Err(other.to_string()),
        }
    })
    .await;
    world.stack().postgres().thaw().unwrap();
    world.finish().await;
}

#[tokio::test]
async fn replicas_send_markers_only_while_postgres_does_not_answer() {
    const SECONDS: u64 = 4;
    let world = two_replicas().await;
    let owner = world.organization().await;
    let nats = world.nats().await;
    let mut signals = nats.subscribe("ingest.key-changes").await.unwrap();
    nats.flush().await.unwrap();
    // On a busy machine Postgres may not answer in time for a moment.
    until_within(DEADLINE * 2, "a time almost without markers", async || {
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(SECONDS) {
            for index in [0, 1] {
                assert_eq!(tried(&world, index, &owner.key).await, 404);
            }
        }
        let mut markers = 0;
        while signals.next().now_or_never().is_some() {
            markers += 1;
        }
        println!("{markers} markers in {SECONDS} s");
        if markers < SECONDS {
            Ok(())
        } else {
            Err(markers.to_string())
        }
    })
    .await;

    world.stack().postgres().freeze().unwrap();
    let marker = timeout(DEADLINE, signals.next()).await;
    assert!(marker.is_ok_and(|marker| marker.is_some()), "no replica sent one");
    for index in [0, 1] {
        assert_eq!(judged(&world, index, &owner.key).await, 422);
    }
    world.stack().postgres().thaw().unwrap();
    world.finish().await;
}
