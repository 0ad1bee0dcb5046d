//! What the operator can do with organisations and their keys.

use e2e::{World, until};
use reqwest::Method;
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::calls::{answer, json, request, status, tried, until_refused, wrong_fields};
use crate::faults::database::{lock_organization, until_statements_wait};
use crate::{setup, two_replicas};

fn admin(world: &World, index: usize, method: Method, path: &str) -> RequestBuilder {
    let path = format!("/admin/v1/organizations{path}");
    request(world, index, method, &path, world.stack().admin_token())
}

#[tokio::test]
async fn a_changed_limit_holds_on_every_replica() {
    let world = two_replicas().await;
    let organization = world
        .organization_with(&json!({"name": "x", "tier": "pro"}))
        .await;
    let id = organization.id;
    let policy = async |index| {
        let request = request(&world, index, Method::GET, "/v1/events/none", &organization.key);
        let response = request.send().await.unwrap();
        response.headers()["ratelimit-policy"]
            .to_str()
            .unwrap()
            .to_owned()
    };
    for index in [0, 1] {
        assert_eq!(policy(index).await, r#""default";q=1000;w=60"#);
    }
    let change =
        async |body: Value| json(admin(&world, 0, Method::PATCH, &format!("/{id}")).json(&body)).await;
    let changes = [
        (json!({"tier": "free"}), 100),
        (json!({"rate_limit_per_minute": 7, "name": "y"}), 7),
        (json!({"tier": "business"}), 7),
        (json!({"rate_limit_per_minute": null}), 10_000),
    ];
    for (body, limit) in changes {
        change(body).await;
        for index in [0, 1] {
            until("the new limit", async || match policy(index).await {
                text if text == format!(r#""default";q={limit};w=60"#) => Ok(()),
                other => Err(other),
            })
            .await;
        }
    }
    let shown = json(admin(&world, 1, Method::GET, &format!("/{id}"))).await;
    assert_eq!(
        (&shown["name"], &shown["tier"]),
        (&json!("y"), &json!("business"))
    );
    assert_eq!(
        shown,
        change(json!({})).await,
        "nothing changes what nothing names"
    );
    for days in [json!(30), Value::Null] {
        let after = change(json!({"payload_retention_days": days})).await;
        assert_eq!(after["payload_retention_days"], days);
        assert_eq!(after["rate_limit_per_minute"], Value::Null);
    }
    world.finish().await;
}

#[tokio::test]
async fn a_changed_limit_holds_also_when_who_changed_it_went_away_before_the_answer() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    for index in [0, 1] {
        assert_eq!(tried(&world, index, &organization.key).await, 404);
    }
    let lock = lock_organization(&world, organization.id).await;
    let path = format!("/{}", organization.id);
    let change = admin(&world, 0, Method::PATCH, &path).json(&json!({"rate_limit_per_minute": 7}));
    tokio::select! {
        answer = status(change) => panic!("{answer} although the row is locked"),
        () = until_statements_wait(&world, 1) => {}
    }
    // The replica sees that the connection is closed before it answers on another one, or soon after.
    assert_eq!(tried(&world, 0, &organization.key).await, 404);
    lock.rollback().await.unwrap();
    for index in [0, 1] {
        until("the new limit", async || {
            let request = request(&world, index, Method::GET, "/v1/events/none", &organization.key);
            let answer = request.send().await.unwrap();
            match answer.headers()["ratelimit-policy"].to_str().unwrap() {
                r#""default";q=7;w=60"# => Ok(()),
                other => Err(other.to_owned()),
            }
        })
        .await;
    }
    world.finish().await;
}

#[tokio::test]
async fn organisations_and_their_keys_are_listed_and_revoked() {
    let world = two_replicas().await;
    let (one, two) = (world.organization().await, world.organization().await);
    let mut listed = Vec::new();
    let mut path = "?limit=1".to_owned();
    loop {
        let page = json(admin(&world, 0, Method::GET, &path)).await;
        listed.extend(
            page["data"]
                .as_array()
                .unwrap()
                .iter()
                .map(|each| each["id"].clone()),
        );
        assert!(listed.len() <= 2, "{listed:?}");
        let Some(next) = page["next_cursor"].as_str() else {
            break;
        };
        path = format!("?limit=1&cursor={next}");
    }
    assert_eq!(listed, [json!(two.id), json!(one.id)]);

    let keys = json(admin(&world, 0, Method::GET, &format!("/{}/keys", one.id))).await;
    let id = keys["data"][0]["id"].as_str().unwrap();
    assert_eq!(tried(&world, 1, &one.key).await, 404);
    let revoke = |org| admin(&world, 0, Method::DELETE, &format!("/{org}/keys/{id}"));
    assert_eq!(status(revoke(two.id)).await, 404, "it is another organisation's");
    assert_eq!(tried(&world, 0, &one.key).await, 404);
    assert_eq!(status(revoke(one.id)).await, 204);
    until_refused(&world, 1, &one.key).await;
    world.finish().await;
}

#[tokio::test]
async fn what_does_not_exist_or_is_wrong_is_refused() {
    let world = two_replicas().await;
    let id = world.organization().await.id;
    let nobody = "/01890a5d-ac96-774b-bcce-b302099a8057";
    let unknown = [
        admin(&world, 0, Method::GET, nobody),
        admin(&world, 0, Method::GET, "/x"),
        admin(&world, 0, Method::PATCH, nobody).json(&json!({"name": "x"})),
        admin(&world, 0, Method::GET, &format!("{nobody}/keys")),
        admin(
            &world,
            0,
            Method::DELETE,
            &format!("{nobody}/keys/aaaaaaaaaaaaaaaa"),
        ),
        admin(&world, 0, Method::DELETE, &format!("/{id}/keys/aaaaaaaaaaaaaaaa")),
        admin(&world, 0, Method::POST, &format!("{nobody}/keys")).json(&json!({"name": "x"})),
        admin(&world, 0, Method::POST, &format!("/{id}/keys")).json(&json!({"name": "x", "tenant": "none"})),
    ];
    for request in unknown {
        assert_eq!(status(request).await, 404);
    }
    let change = |body: Value| admin(&world, 0, Method::PATCH, &format!("/{id}")).json(&body);
    insta::assert_snapshot!(answer(change(json!({"name": ""}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: name","errors":[{"field":"name","detail":"must have 1 to 200 characters, none of them NUL"}]}
    "#);
    for field in ["name", "tier"] {
        let wrong = wrong_fields(change(json!({field: null}))).await;
        assert!(
            wrong.starts_with(&format!("{field}: must not be null")),
            "{wrong}"
        );
    }
    insta::assert_snapshot!(answer(change(json!({"rate_limit_per_minute": 0}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: rate_limit_per_minute","errors":[{"field":"rate_limit_per_minute","detail":"invalid value: integer `0`, expected a nonzero u32 at line 1 column 27"}]}
    "#);
    insta::assert_snapshot!(answer(change(json!({"payload_retention_days": 3_651}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: payload_retention_days","errors":[{"field":"payload_retention_days","detail":"must be 1 to 3650"}]}
    "#);
    insta::assert_snapshot!(answer(change(json!({"id": "x"}))).await, @r#"
    422 Unprocessable Entity
    content-type: application/problem+json

    {"type":"about:blank","title":"Unprocessable Entity","status":422,"detail":"wrong: id","errors":[{"field":"id","detail":"unknown field `id`, expected one of `name`, `tier`, `rate_limit_per_minute`, `payload_retention_days`, `events_per_month`, `quota_action` at line 1 column 5"}]}
    "#);
    world.finish().await;
}

#[tokio::test]
async fn the_admin_api_can_have_a_socket_of_its_own() {
    let address = format!("127.0.0.1:{}", penstock_local::reserve_port().unwrap());
    let world = setup()
        .replicas(1, 0)
        .ingest_env("ADMIN_LISTEN_ADDR", &address)
        .start()
        .await;
    let get = |url: String| world.http().get(url).bearer_auth(world.stack().admin_token());
    let path = "/admin/v1/organizations";
    assert_eq!(status(get(world.url(path))).await, 404);
    assert_eq!(status(get(format!("http://{address}{path}"))).await, 200);
    assert_eq!(status(get(format!("http://{address}/readyz"))).await, 200);
    assert_eq!(status(get(format!("http://{address}/v1/events/none"))).await, 404);
    world.finish().await;
}
