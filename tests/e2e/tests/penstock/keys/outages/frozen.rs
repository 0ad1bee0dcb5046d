//! Replicas that stood still.

use std::time::Instant;

use e2e::{Signal, World};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::{EVENT, PROMISE, judged, revoke, sent, used_and_unused};
use crate::calls::{address, make, text, tried, until_refused};
use crate::{setup, two_replicas};

/// Connections that are open: each has had an answer.
async fn open(world: &World, key: &str, count: usize) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..count {
        let mut connection = connect(world).await;
        let written = connection.write_all(post(key).as_bytes()).await;
        written.expect("the replica takes it");
        assert_eq!(first_status(&mut connection).await, "202");
        connections.push(connection);
    }
    connections
}

async fn connect(world: &World) -> TcpStream {
    let connection = TcpStream::connect(address(world, 1)).await;
    connection.expect("ingest-api listens")
}

fn post(key: &str) -> String {
    format!("{}{EVENT}", head(key))
}

fn head(key: &str) -> String {
    format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\n\r\n",
        EVENT.len()
    )
}

/// The status of the next answer.
async fn first_status(connection: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    while !answer.ends_with(b"}") {
        let read = connection
            .read_buf(&mut answer)
            .await
            .expect("ingest-api answers");
        assert_ne!(read, 0, "the connection ended: {}", answer.escape_ascii());
    }
    String::from_utf8_lossy(&answer[9..12]).into_owned()
}

/// Freezes the second replica, revokes a key, and lets it go on once nobody may accept the key any more.
async fn freeze_and_revoke(world: &World, owner: &str, id: &str, meanwhile: impl AsyncFnOnce()) {
    world.stack().ingest(1).signal(Signal::SIGSTOP).expect("it runs");
    revoke(world, owner, id).await;
    let revoked = Instant::now();
    meanwhile().await;
    while revoked.elapsed() < PROMISE {
        assert_eq!(tried(world, 0, owner).await, 404);
    }
    world.stack().ingest(1).signal(Signal::SIGCONT).expect("it runs");
}

#[tokio::test]
async fn a_replica_that_was_frozen_accepts_no_key_that_was_revoked_meanwhile() {
    const TRIALS: usize = 10;
    const CONNECTIONS: usize = 8;
    let world = setup().replicas(2, 1).start().await;
    let owner = world.organization().await;
    for trial in 0..TRIALS {
        let [(id, key), _] = used_and_unused(&world, &owner).await;
        let mut connections = open(&world, &key, CONNECTIONS).await;
        freeze_and_revoke(&world, &owner.key, &id, async || {
            for _ in 0..CONNECTIONS {
                connections.push(connect(&world).await);
            }
            for connection in &mut connections {
                connection.write_all(post(&key).as_bytes()).await.unwrap();
            }
        })
        .await;
        for connection in &mut connections {
            assert_eq!(first_status(connection).await, "401", "trial {trial}");
        }
    }
    assert_eq!(sent(&world, 1, &owner.key).await, 202);
    world.finish().await;
}

#[tokio::test]
async fn a_body_that_comes_as_its_replica_wakes_does_nothing_when_its_key_was_revoked_meanwhile() {
    let world = setup().replicas(2, 1).start().await;
    let owner = world.organization().await;
    for trial in 0..5 {
        let [(id, key), _] = used_and_unused(&world, &owner).await;
        let mut connection = connect(&world).await;
        let head = head(&key).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
        connection.write_all(head.as_bytes()).await.unwrap();
        let mut interim = [0; 25];
        connection.read_exact(&mut interim).await.unwrap();
        freeze_and_revoke(&world, &owner.key, &id, async || {
            connection.write_all(EVENT.as_bytes()).await.unwrap();
        })
        .await;
        assert_eq!(first_status(&mut connection).await, "503", "trial {trial}");
    }
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_wakes_alone_trusts_no_key() {
    let mut world = two_replicas().await;
    let owner = world.organization().await.key;
    let made = make(&world, &owner, &json!({"name": "a", "scopes": ["ingest"]})).await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    for key in [owner.as_str(), key] {
        assert_eq!(tried(&world, 1, key).await, 404);
    }
    world.stack().ingest(1).signal(Signal::SIGSTOP).expect("it runs");
    revoke(&world, &owner, id).await;
    let revoked = Instant::now();
    while revoked.elapsed() < PROMISE {
        assert_eq!(tried(&world, 0, &owner).await, 404);
    }
    world.stack().postgres().freeze().unwrap();
    world.stack_mut().nats_mut().kill().await.unwrap();
    world.stack().ingest(1).signal(Signal::SIGCONT).expect("it runs");
    // The signal about the second one may be read first. About the first one there is none.
    for key in [owner.as_str(), key] {
        assert_eq!(judged(&world, 1, key).await, 503);
    }
    world.stack().postgres().thaw().unwrap();
    world.stack_mut().nats_mut().start().await.unwrap();
    until_refused(&world, 1, key).await;
    world.finish().await;
}
