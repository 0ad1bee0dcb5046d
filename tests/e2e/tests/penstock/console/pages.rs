//! What the console says of its pages, and of what is wrong, in a real browser.

use super::browser::Browser;
use crate::setup;

#[tokio::test]
async fn pages_name_themselves_and_say_what_is_wrong() {
    let world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    let base = world.url("");
    let arguments = [&*base, &organization.key, world.stack().admin_token()];
    let Some(browser) = Browser::run("pages.cjs", &arguments).await else {
        world.finish().await;
        return;
    };
    browser.finish().await;
    world.finish().await;
}
