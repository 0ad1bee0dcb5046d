//! Whose templates wait for whose.

use e2e::Event;
use serde_json::json;

use super::templates::ENDLESS;
use crate::setup;

fn event_of(tenant: &str) -> Event {
    Event {
        tenant: Some(tenant.to_owned()),
        ..Event::new("a", "1")
    }
}

#[tokio::test]
async fn a_hostile_tenants_templates_take_their_fuel_and_no_time_of_its_neighbours() {
    const ENDPOINTS: i64 = 20;
    const EVENTS: i64 = 25;
    const RENDERS: i64 = ENDPOINTS * EVENTS;
    const NEIGHBOURS: usize = 5;
    let mut world = setup()
        .worker_env("WORKER_THREADS", "1")
        .worker_env("RETRY_INITIAL", "10m")
        // Most of the hostile deliveries still wait for their turn then.
        .worker_env("DRAIN_TIMEOUT", "1s")
        .start()
        .await;
    let organization = world.organization().await;
    let (never, rendered) = (world.receiver().await, world.receiver().await);
    let endless = json!({
        "tenant": "hostile", "create_tenant": true, "template": {"body": ENDLESS}, "timeout_ms": 30_000
    });
    for _ in 0..ENDPOINTS {
        world.endpoint_with(&organization, &never, endless.clone()).await;
    }
    let preset = json!({"tenant": "neighbour", "create_tenant": true, "template": {"preset": "discord"}});
    world.endpoint_with(&organization, &rendered, preset).await;
    let producer = world.producer(&organization);
    for _ in 0..EVENTS {
        producer.send(&event_of("hostile")).await;
    }
    world.until_deliveries_are(RENDERS, "pending").await;
    for _ in 0..NEIGHBOURS {
        producer.send(&event_of("neighbour")).await;
    }
    rendered.wait_for(NEIGHBOURS).await;
    let ended = "select count(*) from deliveries where last_outcome = 'template'";
    let ended: i64 = sqlx::query_scalar(ended)
        .fetch_one(world.database())
        .await
        .expect("Postgres answers");
    assert!(ended < RENDERS / 2, "{ended} of {RENDERS} were before");
    assert_eq!(never.count(), 0);
    world.finish().await;
}
