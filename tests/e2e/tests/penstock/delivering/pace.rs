//! Endpoints with a limit of deliveries a second.

use std::time::{Duration, Instant};

use crate::calls::send;
use crate::setup;

const EVENTS: usize = 60;

#[tokio::test]
async fn all_workers_together_keep_an_endpoints_rate_limit() {
    let mut world = setup().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let (receiver, other) = (world.receiver().await, world.receiver().await);
    let fields = serde_json::json!({"rate_limit_per_second": 10});
    world.endpoint_with(&organization, &receiver, fields).await;
    world.endpoint(&organization, &other).await;
    let start = Instant::now();
    send(&world.producer(&organization), EVENTS).await;
    let others_last = other.wait_for(EVENTS).await[EVENTS - 1].arrived;
    let webhooks = receiver.wait_for(EVENTS).await;
    // A quarter of a second's worth, less than 3, may come at once, and after that one every 100 ms.
    for (index, webhook) in webhooks.iter().enumerate() {
        let turns = u32::try_from(index + 1).unwrap().saturating_sub(3);
        let earliest = start + Duration::from_millis(100) * turns;
        assert!(
            webhook.arrived >= earliest,
            "number {index} came {:?} too early",
            earliest - webhook.arrived
        );
    }
    assert!(others_last < webhooks[EVENTS - 1].arrived);
    world.settle().await;
    assert_eq!(receiver.count(), EVENTS);
    world.finish().await;
}
