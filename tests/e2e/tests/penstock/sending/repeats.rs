//! Idempotency at scale.

use std::collections::HashSet;

use e2e::{DEADLINE, STOP_DEADLINE, World};
use futures_util::{StreamExt as _, stream};
use serde_json::{Value, json};

use crate::setup;

const EVENTS: usize = 10_000;
const BATCH: usize = 500;

/// Sends every event once, in batches, and returns the ids.
async fn send_all(world: &World, key: &str, replica: usize) -> HashSet<String> {
    let url = format!("{}/v1/events/batch", world.stack().ingest(replica).url());
    let batches = stream::iter((0..EVENTS).step_by(BATCH)).map(|first| {
        let numbers = first..first + BATCH;
        let lines = numbers.map(|n| format!(r#"{{"type":"a","data":{n},"idempotency_key":"key-{n}"}}"#));
        let body = lines.collect::<Vec<_>>().join("\n");
        let request = world
            .http()
            .post(&url)
            .bearer_auth(key)
            .header("content-type", "application/x-ndjson");
        async {
            let answer = request.body(body).send().await.expect("ingest-api answers");
            assert_eq!(answer.status(), 202);
            let outcome: Value = answer.json().await.expect("the answer is JSON");
            let results = outcome["results"].as_array().expect("there are results").clone();
            results
                .into_iter()
                .map(|result| result["id"].as_str().expect("it was accepted").to_owned())
        }
    });
    let ids: Vec<_> = batches.buffer_unordered(4).collect().await;
    ids.into_iter().flatten().collect()
}

#[tokio::test]
async fn ten_thousand_events_sent_three_times_over_a_restart_are_delivered_ten_thousand_times() {
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let patient = json!({"timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, patient).await;

    let first = send_all(&world, &organization.key, 0).await;
    assert_eq!(first.len(), EVENTS);
    assert_eq!(
        send_all(&world, &organization.key, 1).await,
        first,
        "another replica gives the same ids"
    );
    let replica = world.stack_mut().ingest_mut(0);
    let stopped = replica.terminate(STOP_DEADLINE).await.expect("it runs");
    assert!(stopped.success(), "{stopped}");
    replica.start().await.expect("it starts again");
    assert_eq!(
        send_all(&world, &organization.key, 0).await,
        first,
        "and so does one that was started again"
    );

    world.settle_with(DEADLINE * 4).await;
    assert_eq!(receiver.count(), EVENTS);
    let delivered: HashSet<_> = receiver
        .webhooks()
        .iter()
        .map(|webhook| webhook.id.to_string())
        .collect();
    assert_eq!(delivered, first);
    world.finish().await;
}
