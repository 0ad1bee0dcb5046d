//! What people do in the pages, in a real browser.

use std::time::Duration;

use e2e::{Answer, Event, Organization, World};
use reqwest::Method;
use serde_json::{Value, json};
use shared::domain::clock::UnixMicros;

use super::browser::Browser;
use crate::calls::{self, make, request, text};
use crate::setup;

/// An event type is any text without white space, `*` and `>`.
const HOSTILE_TYPE: &str = "<svg/onload=alert(1)";

const HOSTILE_DATA: &str = r#"{"big":12345678901234567890123,"text":"</script><script>alert(1)</script>","<b onclick=alert(1)>":"'\"><img src=x onerror=alert(1)>"}"#;

#[tokio::test]
async fn people_see_an_event_arrive_fail_and_be_recovered() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let path = receiver.new_path();
    let (base, address) = (world.url(""), receiver.url(&path));
    let arguments = [&*base, &organization.key, world.stack().admin_token(), &address];
    let Some(mut browser) = Browser::run("console.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    let made = browser.hear("endpoint").await;
    let (endpoint, secret) = made.split_once(' ').expect("an id and a secret");
    receiver.register(path, endpoint.parse().expect("an id"), secret);
    let once = request(
        &world,
        0,
        Method::PATCH,
        &format!("/v1/endpoints/{endpoint}"),
        &organization.key,
    );
    calls::json(once.json(&json!({"retry": {"attempts": 1}}))).await;
    browser.say("go on").await;

    browser.hear("send").await;
    let of_acme = |kind: &str, data: &str| Event::new(kind, data).of_tenant("acme");
    let producer = world.producer(&organization);
    producer.send(&of_acme(HOSTILE_TYPE, HOSTILE_DATA)).await;
    browser.say(HOSTILE_TYPE).await;

    let id = browser.hear("signature").await.parse().expect("an event's id");
    let webhook = receiver.webhooks_of(id).into_iter().next().expect("it arrived");
    let signature = webhook.headers["webhook-signature"]
        .to_str()
        .expect("it is ASCII");
    browser.say(&format!("{} {signature}", webhook.timestamp)).await;

    browser.hear("break").await;
    receiver.answer(|_| Answer::status(500).with_body("<img src=x onerror=alert(2)>"));
    producer.send(&of_acme("order.broken", "{}")).await;
    browser.say("order.broken").await;

    browser.hear("repair").await;
    receiver.answer(|_| Answer::status(204));
    browser.say("go on").await;

    browser.hear("revoke").await;
    let key = format!("/v1/keys/{}", &organization.key[8..24]);
    let revoked = request(&world, 0, Method::DELETE, &key, &organization.key);
    assert!(calls::status(revoked).await.is_success());
    browser.say("go on").await;
    browser.finish().await;
    world.settle().await;
    world.finish().await;
}

/// A token of a tenant's portal. It ends with its key, which lasts for `seconds`.
async fn session(world: &World, organization: &Organization, seconds: u64) -> Value {
    let expires_at = UnixMicros::now().to_date_time() + Duration::from_secs(seconds);
    let expires_at = expires_at.format(&time::format_description::well_known::Rfc3339);
    let key = json!({"name": "short", "scopes": ["manage"], "expires_at": expires_at.expect("a time")});
    let key = make(world, &organization.key, &key).await;
    let body = json!({
        "capabilities": ["view", "manage_endpoints", "view_secrets", "replay"],
        "event_types": ["acme.*"],
    });
    let path = "/v1/tenants/acme/portal-sessions";
    calls::json(request(world, 0, Method::POST, path, text(&key, "key")).json(&body)).await
}

/// Ends a session of a tenant's portal.
async fn end(world: &World, organization: &Organization, session: &Value) {
    let path = format!("/v1/tenants/acme/portal-sessions/{}", text(session, "id"));
    let ended = request(world, 0, Method::DELETE, &path, &organization.key);
    assert!(calls::status(ended).await.is_success());
}

#[tokio::test]
async fn a_tenants_people_help_themselves_in_a_frame_of_another_origin() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let mut foreign = Vec::new();
    for uid in ["acme", "globex"] {
        super::portal::tenant(&world, &organization, uid).await;
        let endpoint = world
            .endpoint_with(&organization, &receiver, json!({"tenant": uid}))
            .await;
        let event = Event::new(&format!("{uid}.event"), "{}").of_tenant(uid);
        let event = world.producer(&organization).send(&event).await;
        foreign = vec![event.to_string(), endpoint.id.to_string()];
    }
    world.settle().await;
    let arguments: Vec<_> = foreign.iter().map(String::as_str).collect();
    let Some(mut browser) = Browser::run("portal.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    let origin = browser.hear("origin").await;
    let settings = json!({"name": "Acme hooks", "origins": [origin], "accent_color": "#7a0c8a", "dark_accent_color": "#e7a6f2"});
    calls::json(request(&world, 0, Method::PUT, "/v1/portal", &organization.key).json(&settings)).await;
    let first = session(&world, &organization, 600).await;
    browser.say(text(&first, "url")).await;

    browser.hear("end").await;
    end(&world, &organization, &first).await;
    browser.say("go on").await;
    let mut last = first;
    for seconds in [15, 600] {
        browser.hear("renew").await;
        last = session(&world, &organization, seconds).await;
        browser.say(text(&last, "token")).await;
    }

    browser.hear("end").await;
    end(&world, &organization, &last).await;
    browser.say("go on").await;
    browser.hear("renew").await;
    browser.say(text(&last, "token")).await;
    browser.hear("renew").await;
    let next = session(&world, &organization, 600).await;
    browser.say(text(&next, "token")).await;
    browser.finish().await;
    world.settle().await;
    world.finish().await;
}
