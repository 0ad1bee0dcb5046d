//! How soon a revoked key is refused, whoever is away.

mod cut_off;

use std::time::{Duration, Instant};

use e2e::{Signal, World, until};
use futures_util::future::join_all;
use reqwest::Method;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::calls::{address, answer, json, last_admitted, make, request, status, text, tried, until_refused};
use crate::faults::database::{lock_organization, until_statements_wait};
use crate::faults::restarts;
use crate::{setup, two_replicas};

/// Within this time every replica refuses a revoked key.
const PROMISE: Duration = Duration::from_secs(1);

/// What `KEY_CACHE_TTL` is set to where a revocation is not signalled.
const TTL: Duration = Duration::from_secs(2);

#[tokio::test]
async fn a_revoked_key_is_refused_by_every_replica_within_a_second() {
    const REPLICAS: usize = 3;
    let world = setup().replicas(REPLICAS, 0).start().await;
    let owner = world.organization().await.key;
    let made = make(&world, &owner, &json!({"name": "a", "scopes": ["ingest"]})).await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    for index in 0..REPLICAS {
        assert_eq!(tried(&world, index, key).await, 404);
    }
    let revoke = request(&world, 0, Method::DELETE, &format!("/v1/keys/{id}"), &owner);
    assert_eq!(status(revoke).await, 204);
    let revoked = Instant::now();
    assert_eq!(tried(&world, 0, key).await, 401, "the replica that did it knows");
    let times = (1..REPLICAS).map(|index| last_admitted(&world, index, key, revoked));
    let times = join_all(times).await;
    println!("last let in by the other replicas after {times:?}");
    assert!(times.iter().all(|time| *time < PROMISE), "{times:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_key_whose_revocation_was_never_signalled_is_refused_within_a_second() {
    let revoke = "update api_keys set revoked_at = now() where id = $1";
    is_refused_after("set local session_replication_role = 'origin'", revoke).await;
}

/// As when its commit has waited for a standby: what was changed bears the time of its statement.
#[tokio::test]
async fn a_key_whose_revocation_was_committed_late_is_refused_within_a_second() {
    let revoke =
        "update api_keys set revoked_at = now(), changed_at = now() - interval '15 seconds' where id = $1";
    is_refused_after("set local session_replication_role = 'replica'", revoke).await;
}

/// Revokes a key behind the API's back, with or without the trigger that writes the time, and sees that both replicas refuse it.
async fn is_refused_after(triggers: &'static str, revoke: &'static str) {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let made = make(&world, &owner, &json!({"name": "a", "scopes": ["ingest"]})).await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    for index in 0..2 {
        assert_eq!(tried(&world, index, key).await, 404);
    }
    let mut transaction = world.database().begin().await.expect("Postgres runs");
    let set = sqlx::query(triggers).execute(&mut *transaction).await;
    set.expect("a superuser may");
    let revoked = sqlx::query(revoke).bind(id).execute(&mut *transaction).await;
    revoked.expect("Postgres runs");
    transaction.commit().await.expect("Postgres runs");
    let revoked = Instant::now();
    let times = (0..2).map(|index| last_admitted(&world, index, key, revoked));
    let times = join_all(times).await;
    println!("last let in after {times:?}");
    assert!(times.iter().all(|time| *time < PROMISE), "{times:?}");
    world.finish().await;
}

/// Sends the first replica a request for an event up to its body, which is waited for when this returns. `framing` is the
/// header that says where the body ends.
async fn begin(world: &World, key: &str, framing: &str) -> TcpStream {
    let connection = TcpStream::connect(address(world, 0)).await;
    let mut connection = connection.expect("ingest-api listens");
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-API-Key: {key}\r\nConnection: close\r\n\
         Content-Type: application/json\r\n{framing}\r\nExpect: 100-continue\r\n\r\n"
    );
    connection
        .write_all(head.as_bytes())
        .await
        .expect("ingest-api reads");
    // It asks for the body when it waits for it.
    let mut interim = [0; 25];
    connection
        .read_exact(&mut interim)
        .await
        .expect("ingest-api answers");
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection
}

#[tokio::test]
async fn a_request_whose_key_is_revoked_while_its_body_comes_does_nothing() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let made = make(&world, &owner, &json!({"name": "a", "scopes": ["ingest"]})).await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let mut connection = begin(&world, key, "Content-Length: 21").await;
    let revoke = request(&world, 1, Method::DELETE, &format!("/v1/keys/{id}"), &owner);
    assert_eq!(status(revoke).await, 204);
    until_refused(&world, 0, key).await;
    connection.write_all(br#"{"type":"a","data":1}"#).await.unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await.unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"),
        "{answer}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_finishes_its_requests_before_it_stops_still_hears_of_revocations() {
    let mut world = two_replicas().await;
    let owner = world.organization().await.key;
    let made = make(&world, &owner, &json!({"name": "a", "scopes": ["ingest"]})).await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let mut connection = begin(&world, key, "Transfer-Encoding: chunked").await;
    world.stack().ingest(0).signal(Signal::SIGTERM).unwrap();
    restarts::until_it_accepts_nobody(&world).await;
    let revoke = request(&world, 1, Method::DELETE, &format!("/v1/keys/{id}"), &owner);
    assert_eq!(status(revoke).await, 204);
    let mut answer = [0; 12];
    until("an answer", async || match connection.try_read(&mut answer) {
        Ok(_) => Ok(()),
        Err(error) => {
            // White space, which may stand before an event: its body goes on coming.
            connection.write_all(b"1\r\n \r\n").await.unwrap();
            Err(error.to_string())
        }
    })
    .await;
    assert_eq!(&answer, b"HTTP/1.1 503", "{}", answer.escape_ascii());
    until("ingest-api to end", async || {
        let ended = world.stack_mut().ingest_mut(0).try_wait();
        ended.unwrap().ok_or_else(|| "it runs".to_owned())
    })
    .await;
    world.finish().await;
}

/// Revokes a key at another replica once a request waits for a lock.
async fn revoke_meanwhile(world: &World, owner: &str, id: &str) {
    until_statements_wait(world, 1).await;
    let revoke = request(world, 1, Method::DELETE, &format!("/v1/keys/{id}"), owner);
    assert_eq!(status(revoke).await, 204);
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_makes_or_replaces_a_key_brings_about_none() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    let owner = &organization.key;
    let other = make(&world, owner, &json!({"name": "other", "scopes": ["ingest"]})).await;
    for (path, body) in [
        (
            "/v1/keys".to_owned(),
            json!({"name": "new", "scopes": ["manage"]}),
        ),
        (
            format!("/v1/keys/{}/rotate", text(&other, "id")),
            json!({"overlap_seconds": 60}),
        ),
    ] {
        let leaked = json!({"name": "leaked", "scopes": ["ingest", "manage"]});
        let leaked = make(&world, owner, &leaked).await;
        let lock = lock_organization(&world, organization.id).await;
        let making = request(&world, 0, Method::POST, &path, text(&leaked, "key")).json(&body);
        let revoking = async {
            revoke_meanwhile(&world, owner, text(&leaked, "id")).await;
            lock.rollback().await.unwrap();
        };
        let (made, ()) = tokio::join!(status(making), revoking);
        assert_eq!(made, 401, "{path}");
    }
    let keys = json(request(&world, 0, Method::GET, "/v1/keys", owner)).await;
    let names: Vec<_> = keys["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|key| text(key, "name"))
        .collect();
    assert_eq!(names, ["leaked", "leaked", "other", "test"]);
    world.finish().await;
}

#[tokio::test]
async fn a_key_that_is_revoked_while_it_makes_an_endpoint_makes_none() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    let owner = &organization.key;
    let leaked = make(&world, owner, &json!({"name": "leaked", "scopes": ["manage"]})).await;
    let lock = lock_organization(&world, organization.id).await;
    let body = json!({"kind": "pull"});
    let making = request(&world, 0, Method::POST, "/v1/endpoints", text(&leaked, "key")).json(&body);
    let revoking = revoke_meanwhile(&world, owner, text(&leaked, "id"));
    let (made, ()) = tokio::join!(answer(making), revoking);
    insta::assert_snapshot!(made, @r#"
    503 Service Unavailable
    content-type: application/problem+json
    retry-after: 1

    {"type":"about:blank","title":"Service Unavailable","status":503,"detail":"the API key was changed while the request came: send it again"}
    "#);
    lock.rollback().await.unwrap();
    let endpoints = json(request(&world, 0, Method::GET, "/v1/endpoints", owner)).await;
    assert_eq!(endpoints["data"], json!([]));
    world.finish().await;
}

#[tokio::test]
async fn a_key_can_revoke_itself_and_again_and_no_other_organisations() {
    let world = two_replicas().await;
    let owner = world.organization().await.key;
    let made = make(&world, &owner, &json!({"name": "a", "scopes": ["manage"]})).await;
    let (id, key) = (text(&made, "id"), text(&made, "key"));
    let revoke = |key| request(&world, 0, Method::DELETE, &format!("/v1/keys/{id}"), key);
    let stranger = world.organization().await.key;
    assert_eq!(status(revoke(&stranger)).await, 404);
    assert_eq!(tried(&world, 1, key).await, 404, "nothing happened to it");
    assert_eq!(status(revoke(key)).await, 204);
    assert_eq!(tried(&world, 0, key).await, 401);
    assert_eq!(
        status(revoke(&owner)).await,
        204,
        "revoking again changes nothing"
    );
    let unknown = request(&world, 0, Method::DELETE, "/v1/keys/aaaaaaaaaaaaaaaa", &owner);
    assert_eq!(status(unknown).await, 404);
    world.finish().await;
}
