//! Endpoints are opened when they are first used.

use e2e::{Event, until};
use serde_json::json;

use super::egress::unusable_endpoints;
use crate::setup;

#[tokio::test]
async fn a_worker_opens_the_endpoints_that_it_uses_and_the_first_one_of_each_key() {
    const DAMAGED: [&str; 3] = ["one", "two", "three"];
    let mut world = setup().replicas(1, 0).start().await;
    world.tolerate("unusable endpoint");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    for kind in DAMAGED.iter().chain(&["good"]) {
        let fields = json!({"event_types": [kind]});
        world.endpoint_with(&organization, &receiver, fields).await;
    }
    world
        .execute("create table saved as select id, secret from endpoints")
        .await;
    let damage = "update endpoints set secret = 'of another key' where event_types <> '{good}'";
    world.execute(damage).await;
    world.stack_mut().add_worker().await.expect("a worker starts");

    let producer = world.producer(&organization);
    let good = producer.send(&Event::new("good", "1")).await;
    world.until_delivery_is(good, "delivered").await;
    let until_told = async |count: usize| {
        until("the worker to tell of unusable endpoints", async || {
            let told = unusable_endpoints(&world).len();
            if told >= count {
                Ok(told)
            } else {
                Err(told.to_string())
            }
        })
        .await
    };
    assert_eq!(until_told(1).await, 1, "the others are not opened yet");
    let mut waiting = Vec::new();
    for kind in DAMAGED {
        waiting.push(producer.send(&Event::new(kind, "1")).await);
    }
    for id in &waiting {
        world.until_delivery_is(*id, "pending").await;
    }
    assert_eq!(until_told(3).await, 3);
    let mend = "update endpoints set secret = saved.secret from saved where saved.id = endpoints.id";
    world.execute(mend).await;
    for id in waiting {
        world.until_delivery_is(id, "delivered").await;
    }
    world.finish().await;
}
