//! The services get by with the permissions that `deploy/nats-permissions.conf` gives them in NATS.

use e2e::{Event, World};
use reqwest::Method;
use serde_json::Value;

use crate::calls::{request, status, tried, until_refused};
use crate::keys::rate_limits::until_together;
use crate::keys::shared_keys::until_shared;
use crate::setup;

/// Who is connected, by nats-server's own account, besides the harness.
async fn users(world: &World) -> Vec<String> {
    let url = format!("{}/connz?auth=true", world.stack().nats().monitoring_url());
    let figures = world.http().get(url).send().await.expect("nats-server answers");
    let figures: Value = figures.json().await.expect("the answer is JSON");
    let connections = figures["connections"].as_array().expect("there are some");
    let users = connections
        .iter()
        .filter_map(|connection| connection["authorized_user"].as_str());
    let mut users: Vec<_> = users
        .filter(|user| *user != "operator")
        .map(str::to_owned)
        .collect();
    users.sort();
    users
}

#[tokio::test]
async fn services_with_nothing_but_their_own_permissions_lack_none() {
    let mut world = setup()
        .nats_users()
        .replicas(2, 2)
        .ingest_env("EVENT_STREAMS", "2")
        .start()
        .await;
    until_together(&world, 2).await;
    assert_eq!(
        users(&world).await,
        ["delivery-worker", "delivery-worker", "ingest-api", "ingest-api"]
    );
    let receiver = world.receiver().await;
    // As many organisations as it takes for both streams to have some, most likely.
    for _ in 0..6 {
        let organization = world.organization().await;
        world.endpoint(&organization, &receiver).await;
        let producer = world.producer_at(&organization, 1);
        producer.send(&Event::new("a", "1")).await;
        assert_eq!(tried(&world, 0, &organization.key).await, 404);
    }
    world.settle().await;
    assert_eq!(receiver.count(), 6);

    let revoked = world.organization().await;
    for index in [0, 1] {
        assert_eq!(tried(&world, index, &revoked.key).await, 404);
    }
    until_shared(&world, 7).await;
    let path = format!("/v1/keys/{}", &revoked.key[8..24]);
    let revoke = request(&world, 0, Method::DELETE, &path, &revoked.key);
    assert_eq!(status(revoke).await, 204);
    until_refused(&world, 1, &revoked.key).await;
    until_shared(&world, 6).await;

    // After a restart keys are read from the bucket, and everything is made or found again.
    world.restart_everything().await;
    let organization = world.organization().await;
    world.endpoint(&organization, &receiver).await;
    world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(7).await;

    let log = world.stack().nats().log();
    let refused: Vec<_> = log.lines().filter(|line| line.contains("Violation")).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    world.finish().await;
}
