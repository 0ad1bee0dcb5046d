//! Keys: rotated and listed.

use serde_json::{Value, json};

use super::{Client, read, text, world};
use crate::calls::answer;

#[tokio::test]
async fn a_rotated_key_is_dead_at_once() {
    let world = world().await;
    let client = Client::new(&world).await;
    let issued = read(client.post("/api/keys/rotate"), 200).await;
    let successor = Client {
        key: text(&issued["api_key"]),
        ..client.clone()
    };
    assert!(successor.key.starts_with("zap_live_") && successor.key != client.key);
    insta::assert_snapshot!(answer(client.get("/api/inbox")).await, @r#"
    401 Unauthorized
    content-type: application/json
    www-authenticate: Bearer

    {"error":"the API key is not valid"}
    "#);
    successor.send(&json!({"type": "a", "payload": 1})).await;
    let keys = read(successor.get("/api/keys"), 200).await;
    let keys = keys["keys"].as_array().unwrap();
    let revoked: Vec<_> = keys.iter().map(|key| key["revoked_at"].is_string()).collect();
    assert_eq!(revoked, [false, true]);
    assert_eq!(keys[0]["scopes"], json!(["ingest", "manage"]));
    assert_eq!(keys[1]["replaced_by"], keys[0]["id"]);
    let secrets = [&client, &successor].map(|client| client.key.rsplit_once('_').unwrap().1);
    let shown = Value::from(keys.clone()).to_string();
    assert!(secrets.iter().all(|secret| !shown.contains(secret)), "{shown}");
    world.finish().await;
}

#[tokio::test]
async fn the_list_of_keys_says_whose_they_are() {
    let world = world().await;
    let client = Client::new(&world).await;
    let list = async |webhook_url: Option<&str>| {
        let list = read(client.get("/api/keys"), 200).await;
        assert_eq!(list["keys"].as_array().map(Vec::len), Some(1), "{list}");
        let expected = json!({
            "organization_id": list["organization_id"],
            "organization_name": "old",
            "tier": "enterprise",
            "rate_limit_per_minute": 100_000,
            "webhook_url": webhook_url,
            "keys": list["keys"],
        });
        assert_eq!(list, expected);
        text(&list["organization_id"])
    };
    let id = list(None).await;
    let webhook = json!({"webhook_url": "https://example.com/hook"});
    read(client.post("/api/webhook/config").json(&webhook), 200).await;
    assert_eq!(list(Some("https://example.com/hook")).await, id);
    let rotated = read(client.post("/api/keys/rotate"), 200).await;
    assert_eq!(rotated["organization_id"], id);
    world.finish().await;
}
