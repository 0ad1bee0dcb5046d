//! Sessions of the console: a cookie that only a page of the same origin can use, and that ends with its key.

use e2e::{World, until};
use reqwest::{Method, Response, StatusCode};
use reqwest_middleware::RequestBuilder;
use serde_json::{Value, json};

use crate::calls::{self, request, status, text};
use crate::{setup, two_replicas, world};

const MARK: (&str, &str) = ("penstock-console", "1");
const SAME_ORIGIN: (&str, &str) = ("sec-fetch-site", "same-origin");

/// A request as a page of this origin sends it.
fn from_page(world: &World, index: usize, method: Method, path: &str) -> RequestBuilder {
    let url = format!("{}{path}", world.stack().ingest(index).url());
    let request = world.http().request(method, url);
    request
        .header(MARK.0, MARK.1)
        .header(SAME_ORIGIN.0, SAME_ORIGIN.1)
}

async fn sign_in(world: &World, credential: &str) -> Response {
    let request = from_page(world, 0, Method::POST, "/console/session");
    let request = request.json(&json!({ "credential": credential }));
    request.send().await.expect("ingest-api answers")
}

/// The cookie that an answer sets, as a browser sends it.
fn cookie(answer: &Response) -> String {
    let set = answer.headers()["set-cookie"]
        .to_str()
        .expect("a cookie is ASCII");
    set.split(';').next().unwrap_or_default().to_owned()
}

async fn tried(world: &World, index: usize, path: &str, cookie: &str) -> StatusCode {
    status(from_page(world, index, Method::GET, path).header("cookie", cookie)).await
}

#[tokio::test]
async fn a_key_is_exchanged_for_a_session_that_only_its_own_page_can_use() {
    let world = world().await;
    let organization = world.organization().await;
    let answer = sign_in(&world, &organization.key).await;
    assert_eq!(answer.status(), 201);
    let set = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    let flags = set.split_once(';').unwrap().1;
    assert_eq!(flags, " Path=/; Max-Age=43200; HttpOnly; Secure; SameSite=Strict");
    assert!(set.starts_with("__Host-penstock=") && !set.contains(&organization.key[24..]));
    let cookie = cookie(&answer);
    let shown: Value = answer.json().await.unwrap();
    assert_eq!(
        (&shown["kind"], &shown["key_id"]),
        (&json!("key"), &json!(organization.key[8..24]))
    );

    assert_eq!(tried(&world, 0, "/v1/events", &cookie).await, 200);
    assert_eq!(tried(&world, 0, "/console/session", &cookie).await, 200);
    assert_eq!(tried(&world, 0, "/admin/v1/organizations", &cookie).await, 401);
    let make = |headers: &[(&str, &str)]| {
        let request = world
            .http()
            .post(world.url("/v1/endpoints"))
            .header("cookie", &cookie);
        let request = request.json(&json!({"kind": "pull"}));
        status(
            headers
                .iter()
                .fold(request, |request, (name, value)| request.header(*name, *value)),
        )
    };
    assert_eq!(make(&[MARK, SAME_ORIGIN]).await, 201);
    let origin = world.url("");
    assert_eq!(make(&[MARK, ("origin", &origin)]).await, 201);
    for (headers, refused) in [
        (&[][..], 401),
        (&[SAME_ORIGIN][..], 401),
        (&[MARK][..], 403),
        (&[MARK, ("sec-fetch-site", "same-site")][..], 403),
        (&[MARK, ("sec-fetch-site", "cross-site")][..], 403),
        (&[MARK, ("origin", "https://evil.example")][..], 403),
        (&[MARK, ("origin", "null")][..], 403),
    ] {
        assert_eq!(make(headers).await, refused, "{headers:?}");
    }
    let cross = world.http().post(world.url("/console/session"));
    let cross = cross.json(&json!({"credential": organization.key}));
    assert_eq!(status(cross).await, 403);
    // A key beside the cookie is what counts.
    let beside = from_page(&world, 0, Method::GET, "/v1/events").header("cookie", &cookie);
    assert_eq!(status(beside.bearer_auth("pk_live_wrong")).await, 401);
    world.finish().await;
}

#[tokio::test]
async fn signing_in_makes_a_new_session_whatever_cookie_was_there() {
    let world = world().await;
    let organization = world.organization().await;
    let planted = cookie(&sign_in(&world, &organization.key).await);
    let again = from_page(&world, 0, Method::POST, "/console/session").header("cookie", &planted);
    let again = again
        .json(&json!({"credential": organization.key}))
        .send()
        .await
        .unwrap();
    assert_eq!(again.status(), 201);
    assert_ne!(cookie(&again), planted);
    for wrong in ["", "pk_live_abc", "not a key", "x"] {
        let refused = sign_in(&world, wrong).await;
        assert!(matches!(refused.status().as_u16(), 401 | 422), "{wrong}");
        assert!(refused.headers().get("set-cookie").is_none());
    }
    for made_up in ["__Host-penstock=AAAA", "__Host-penstock=", &format!("{planted}A")] {
        assert_eq!(tried(&world, 0, "/v1/events", made_up).await, 401, "{made_up}");
    }
    world.finish().await;
}

async fn until_over(world: &World, cookie: &str) {
    for index in [0, 1] {
        until("the session to be over", async || {
            match tried(world, index, "/v1/events", cookie).await {
                StatusCode::UNAUTHORIZED => Ok(()),
                other => Err(other.to_string()),
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_session_ends_by_signing_out_and_with_its_key_on_every_replica() {
    let world = two_replicas().await;
    let organization = world.organization().await;
    let (first, second) = (
        cookie(&sign_in(&world, &organization.key).await),
        cookie(&sign_in(&world, &organization.key).await),
    );
    for index in [0, 1] {
        assert_eq!(tried(&world, index, "/v1/events", &first).await, 200);
    }
    let out = from_page(&world, 0, Method::DELETE, "/console/session").header("cookie", &first);
    let out = out.send().await.unwrap();
    assert_eq!((out.status().as_u16(), &*cookie(&out)), (204, "__Host-penstock="));
    until_over(&world, &first).await;
    assert_eq!(tried(&world, 1, "/v1/events", &second).await, 200);
    let path = format!("/v1/keys/{}", &organization.key[8..24]);
    assert!(
        status(request(&world, 0, Method::DELETE, &path, &organization.key))
            .await
            .is_success()
    );
    until_over(&world, &second).await;
    world.finish().await;
}

#[tokio::test]
async fn an_admin_token_is_exchanged_for_a_session_that_may_do_what_the_token_may() {
    let (reader, manager) = ("r".repeat(32), "m".repeat(32));
    let tokens = format!("looks:read:{reader},ops:manage:{manager}");
    let world = setup()
        .replicas(1, 0)
        .ingest_env("ADMIN_TOKENS", &tokens)
        .start()
        .await;
    let unnamed = world.stack().admin_token();
    for (token, name, may_change) in [
        (reader.as_str(), "looks", false),
        (manager.as_str(), "ops", true),
        (unnamed, "admin", true),
    ] {
        let answer = sign_in(&world, token).await;
        let cookie = cookie(&answer);
        let shown: Value = answer.json().await.unwrap();
        assert_eq!(
            (&shown["kind"], &shown["name"], &shown["may_change"]),
            (&json!("admin"), &json!(name), &json!(may_change))
        );
        assert_eq!(tried(&world, 0, "/admin/v1/organizations", &cookie).await, 200);
        assert_eq!(tried(&world, 0, "/v1/events", &cookie).await, 401);
        let request_to_make =
            from_page(&world, 0, Method::POST, "/admin/v1/organizations").header("cookie", &cookie);
        let answer = request_to_make.json(&json!({"name": name})).send().await.unwrap();
        if !may_change {
            assert_eq!(answer.status(), 403);
            continue;
        }
        assert_eq!(answer.status(), 201);
        let made: Value = answer.json().await.unwrap();
        let path = format!("/admin/v1/audit-log?organization_id={}", text(&made, "id"));
        let log = calls::json(request(&world, 0, Method::GET, &path, unnamed)).await;
        assert_eq!(log["data"][0]["actor"], json!(format!("admin:{name}")));
    }
    world.finish().await;
}

#[tokio::test]
async fn the_pages_load_nothing_that_is_not_theirs() {
    let world = setup().replicas(1, 0).start().await;
    let get = |path: &str| world.http().get(world.url(path));
    let page = get("/console").send().await.unwrap();
    let header = |answer: &Response, name: &str| answer.headers()[name].to_str().unwrap().to_owned();
    let policy = header(&page, "content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"),
        "{policy}"
    );
    assert!(
        policy.ends_with("frame-ancestors 'none'") && !policy.contains("unsafe"),
        "{policy}"
    );
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");
    assert_eq!(header(&page, "x-frame-options"), "DENY");
    let text = page.text().await.unwrap();
    assert!(!text.contains("http://") && !text.contains("https://") && !text.contains("<script>"));
    let script = get("/console/files/console.js").send().await.unwrap();
    assert_eq!(header(&script, "content-type"), "text/javascript; charset=utf-8");
    let etag = header(&script, "etag");
    let again = get("/console/files/console.js").header("if-none-match", etag);
    assert_eq!(status(again).await, 304);
    for unknown in [
        "/console/files/none.js",
        "/console/files/console.html",
        "/console/files/../Cargo.toml",
    ] {
        assert_eq!(status(get(unknown)).await, 404, "{unknown}");
    }
    world.finish().await;
}
