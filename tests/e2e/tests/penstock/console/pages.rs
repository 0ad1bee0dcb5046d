//! What the console says of its pages, and of what is wrong, in a real browser.

use reqwest::Method;
use serde_json::json;

use super::browser::Browser;
use crate::calls::{self, request, text};
use crate::setup;

#[tokio::test]
async fn pages_name_themselves_and_say_what_is_wrong() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let path = "/v1/endpoints";
    let fetched = request(&world, 0, Method::POST, path, &organization.key).json(&json!({"kind": "pull"}));
    let fetched = calls::json(fetched).await;
    let base = world.url("");
    let token = world.stack().admin_token();
    let arguments = [&*base, &organization.key, token, text(&fetched, "id")];
    let Some(browser) = Browser::run("pages.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    browser.finish().await;
    world.finish().await;
}
