//! The key that all secrets are stored under.

use std::process::{Output, Stdio};

use data_encoding::BASE64;
use e2e::World;
use reqwest::{Method, StatusCode};
use serde_json::json;
use shared::domain::headers::CustomHeaders;
use shared::domain::id::EndpointId;
use shared::secret::{KeyCheck, SecretsKey, random_bytes};

use super::{EVENTS, PUBLISH_TIMEOUT, Rolling};
use crate::calls::{call, request, status};
use crate::faults::database::until_statements_wait;
use crate::operating::commands::worker_command;
use crate::setup;

fn new_key() -> String {
    BASE64.encode(&random_bytes::<32>())
}

fn id_of(key: &str) -> String {
    SecretsKey::of_list(key).expect("it is a key").ids()[0].to_string()
}

/// A command that reads the secrets' keys.
async fn with_keys(world: &World, command: &str, keys: &str) -> Output {
    let output = worker_command(world, command).env("SECRETS_KEYS", keys).output();
    output.await.expect("the program can be run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The stored secrets by the key that they are under, as the audit counts them.
async fn secrets_by_key(world: &World) -> Vec<(String, u64)> {
    let output = worker_command(world, "audit").arg("--json").output().await;
    let audit: serde_json::Value =
        serde_json::from_slice(&output.expect("the program can be run").stdout).expect("it is JSON");
    let counts = audit["secrets"].as_array().expect("the audit counts secrets");
    let pair = |count: &serde_json::Value| {
        let what = count["what"].as_str().expect("it has a name").to_owned();
        (what, count["count"].as_u64().expect("it has a count"))
    };
    counts.iter().map(pair).collect()
}

fn sorted(mut counts: Vec<(String, u64)>) -> Vec<(String, u64)> {
    counts.sort();
    counts
}

async fn version(world: &World) -> i64 {
    let query = sqlx::query_scalar("select version from endpoint_version");
    query.fetch_one(world.database()).await.expect("Postgres runs")
}

async fn stored_headers(world: &World, endpoint: EndpointId) -> Vec<u8> {
    let query = sqlx::query_scalar("select headers from endpoints where id = $1").bind(endpoint.as_uuid());
    query
        .fetch_one(world.database())
        .await
        .expect("the endpoint is there")
}

/// Reseals until it meets a row that is locked, and is killed there: it has done nothing by halves.
async fn reseal_and_die(world: &World, endpoint: EndpointId, keys: &str) {
    let mut lock = world.database().begin().await.expect("Postgres runs");
    sqlx::query("select from endpoints where id = $1 for update")
        .bind(endpoint.as_uuid())
        .execute(&mut *lock)
        .await
        .expect("the endpoint is there");
    let mut resealing = worker_command(world, "reseal");
    let resealing = resealing
        .env("SECRETS_KEYS", keys)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut resealing = resealing.spawn().expect("it starts");
    until_statements_wait(world, 1).await;
    resealing.kill().await.expect("it runs");
    lock.rollback().await.expect("Postgres runs");
}

/// The check of what was made under a key, as `secrets-keys` prints it.
async fn printed_check(world: &World, keys: &str, key: &str) -> String {
    let printed = with_keys(world, "secrets-keys", keys).await;
    let printed = text(&printed.stdout);
    let line = printed.lines().find(|line| line.starts_with(&id_of(key)));
    let check = line
        .and_then(|line| line.split_whitespace().last())
        .expect("it is printed");
    check.to_owned()
}

#[tokio::test]
async fn the_key_of_all_secrets_is_replaced_while_events_flow() {
    let (old, new) = (new_key(), new_key());
    let mut world = setup()
        .ingest_env("SECRETS_KEY", &old)
        .ingest_env("PUBLISH_TIMEOUT", PUBLISH_TIMEOUT)
        .worker_env("SECRETS_KEY", &old)
        .start()
        .await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let secrets = json!({
        "headers": {"x-token": "canary"},
        "signatures": [{"scheme": "standard"}, {"scheme": "github", "secret": "canary"}],
        "auth": {"kind": "bearer", "token": "canary"},
    });
    let endpoint = world.endpoint_with(&organization, &receiver, secrets).await;
    assert_eq!(secrets_by_key(&world).await, [("unnamed".to_owned(), 4)]);
    let mut rolling = Rolling::start(&world, &organization);
    rolling.load.accepts(EVENTS).await;

    let (first, then) = (format!("{old},{new}"), format!("{new},{old}"));
    for keys in [&first, &then] {
        rolling
            .release(&mut world, &organization, &[("SECRETS_KEYS", keys)])
            .await;
        rolling.load.accepts(EVENTS).await;
    }
    // Made under the new key, and two of its secrets. Nothing is sent to it.
    let body =
        json!({"url": receiver.url("/unused"), "event_types": ["other"], "headers": {"x-token": "canary"}});
    let made = request(&world, 2, Method::POST, "/v1/endpoints", &organization.key).json(&body);
    assert_eq!(status(made).await, StatusCode::CREATED);
    let before = version(&world).await;
    let expected = [(id_of(&new), 2), ("unnamed".to_owned(), 4)];
    assert_eq!(sorted(secrets_by_key(&world).await), sorted(expected.to_vec()));

    reseal_and_die(&world, endpoint.id, &then).await;
    assert_eq!(sorted(secrets_by_key(&world).await), sorted(expected.to_vec()));

    for resealed in ["endpoints resealed: 1\n", "endpoints resealed: 0\n"] {
        let output = with_keys(&world, "reseal", &then).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(text(&output.stdout), resealed);
    }
    assert_eq!(secrets_by_key(&world).await, [(id_of(&new), 6)]);
    assert_eq!(version(&world).await, before, "nobody need read anything again");
    let stored = stored_headers(&world, endpoint.id).await;
    let key = SecretsKey::of_list(&new).expect("it is a key");
    let opened = CustomHeaders::unseal(Some(&stored), &key, endpoint.id).expect("it opens");
    assert_eq!(opened.names().collect::<Vec<_>>(), ["x-token"]);

    // The old key goes. API keys that were made under it stay, by their check.
    let check = printed_check(&world, &then, &old).await;
    let of_old = KeyCheck::of(&SecretsKey::of_list(&old).expect("it is a key"));
    assert_eq!(check, of_old[0].to_text());
    let worker = [("SECRETS_KEYS", new.as_str())];
    let ingest = [("SECRETS_KEYS", new.as_str()), ("API_KEY_CHECKS", check.as_str())];
    rolling
        .release_with(&mut world, &organization, &worker, &ingest)
        .await;
    rolling.load.accepts(EVENTS).await;
    rolling.finish(&world).await;
    world.finish().await;
}

#[tokio::test]
async fn what_no_key_opens_is_told_by_its_endpoint() {
    let world = crate::world().await;
    let organization = world.organization().await;
    let receiver_url = "http://127.0.0.1:9/";
    let (endpoint, _) = world.endpoint_at(&organization, receiver_url, json!({})).await;
    let output = with_keys(&world, "reseal", &new_key()).await;
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "endpoints resealed: 0\nendpoint {} stays: what is stored does not open with SECRETS_KEY, or with any of SECRETS_KEYS\n",
        endpoint.id
    );
    assert_eq!(text(&output.stdout), expected);
    assert!(text(&output.stderr).contains("1 endpoints have secrets that open with none of the keys"));

    let both = worker_command(&world, "reseal")
        .env("SECRETS_KEYS", new_key())
        .env("SECRETS_KEY", new_key())
        .output()
        .await
        .expect("the program can be run");
    assert_eq!(both.status.code(), Some(2));
    let said = text(&both.stderr);
    assert!(
        said.contains("--secrets-key <SECRETS_KEY>") && said.contains("--secrets-keys <SECRETS_KEYS>"),
        "{said}"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_change_that_was_read_before_the_resealing_brings_no_old_ciphertext_back() {
    let (old, new) = (new_key(), new_key());
    let (first, then) = (format!("{old},{new}"), format!("{new},{old}"));
    let world = setup()
        .ingest_env("SECRETS_KEYS", &first)
        .worker_env("SECRETS_KEYS", &first)
        .start()
        .await;
    let organization = world.organization().await;
    let headers = json!({"headers": {"x-token": "canary"}});
    let (endpoint, _) = world
        .endpoint_at(&organization, "http://127.0.0.1:9/", headers)
        .await;
    let mut lock = world.database().begin().await.expect("Postgres runs");
    sqlx::query("select from endpoints where id = $1 for update")
        .bind(endpoint.id.as_uuid())
        .execute(&mut *lock)
        .await
        .expect("the endpoint is there");
    // The change waits behind the resealing, with what it read before.
    let path = format!("/{}", endpoint.id);
    let change = call(&world, &organization, Method::PATCH, &path).json(&json!({"description": "changed"}));
    let changing = async {
        until_statements_wait(&world, 1).await;
        status(change).await
    };
    let releasing = async {
        until_statements_wait(&world, 2).await;
        lock.rollback().await.expect("Postgres runs");
    };
    let (resealed, changed, ()) = tokio::join!(with_keys(&world, "reseal", &then), changing, releasing);
    assert!(resealed.status.success(), "{}", text(&resealed.stderr));
    assert_eq!(changed, StatusCode::OK);
    assert_eq!(secrets_by_key(&world).await, [(id_of(&new), 2)]);
    world.finish().await;
}
