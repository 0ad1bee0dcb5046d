//! How many deliveries consumers together hold, and get a second.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use e2e::{DEADLINE, World, until};
use futures_util::future::join_all;
use serde_json::json;

use super::{change, post};
use crate::endpoints::pull::{Consumer, send};
use crate::setup;

/// A consumer of two deliveries that may hold one.
async fn one_of_two_at_a_time() -> (World, Consumer) {
    let world = setup().start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    change(&world, &organization, &consumer, json!({"max_in_flight": 1})).await;
    for number in 0..2 {
        send(&world, &organization, &number.to_string()).await;
    }
    world.until_deliveries_are_stored(2).await;
    (world, consumer)
}

#[tokio::test]
async fn consumers_together_hold_no_more_leases_than_max_in_flight() {
    let world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    change(&world, &organization, &consumer, json!({"max_in_flight": 3})).await;
    for number in 0..12 {
        send(&world, &organization, &number.to_string()).await;
    }
    world.until_deliveries_are_stored(12).await;
    let pulls = (0..8).map(|number| {
        let consumer = consumer.at(&world, number % 2);
        async move { consumer.pull(json!({"max": 2, "lease_seconds": 600})).await }
    });
    let held: Vec<_> = join_all(pulls).await.into_iter().flatten().collect();
    assert_eq!(held.len(), 3);
    // What waits has nothing that is due to it.
    assert!(consumer.pull(json!({"wait_seconds": 1})).await.is_empty());
    assert_eq!(consumer.acknowledge(&held[0].lease).await, "acknowledged");
    let given_back = json!({"leases": [held[1].lease], "delay_seconds": 600});
    post(&consumer, "nack", given_back).await;
    let more = consumer.pull(json!({"max": 10, "wait_seconds": 20})).await;
    assert_eq!(more.len(), 2, "an acknowledged one and one given back make room");
    change(&world, &organization, &consumer, json!({"max_in_flight": null})).await;
    assert_eq!(consumer.pull(json!({"max": 100})).await.len(), 12 - 3 - 2);
    world.finish().await;
}

#[tokio::test]
async fn consumers_together_get_no_more_a_second_than_the_endpoints_rate() {
    const RATE: u32 = 4;
    const EVENTS: usize = 10;
    let world = setup().replicas(2, 1).start().await;
    let organization = world.organization().await;
    let consumer = Consumer::new(&world, &organization).await;
    let rate = json!({"rate_limit_per_second": RATE});
    change(&world, &organization, &consumer, rate).await;
    for number in 0..EVENTS {
        send(&world, &organization, &number.to_string()).await;
    }
    world.until_deliveries_are_stored(EVENTS).await;
    let begun = Instant::now();
    let count = &AtomicUsize::new(0);
    let consumers = (0..3).map(|number| {
        let consumer = consumer.at(&world, number % 2);
        async move {
            let mut last = begun;
            while count.load(Ordering::Relaxed) < EVENTS {
                assert!(begun.elapsed() < DEADLINE, "{count:?} events came");
                let pulled = consumer
                    .pull(json!({"max": 100, "lease_seconds": 600, "wait_seconds": 2}))
                    .await;
                if !pulled.is_empty() {
                    count.fetch_add(pulled.len(), Ordering::Relaxed);
                    last = Instant::now();
                }
            }
            last
        }
    });
    let ends = join_all(consumers).await;
    assert_eq!(count.load(Ordering::Relaxed), EVENTS);
    let took = ends.into_iter().max().expect("there are three") - begun;
    let least = Duration::from_secs(1) * u32::try_from(EVENTS - 1).unwrap() / RATE;
    assert!(took + Duration::from_millis(100) >= least, "{took:?}");
    world.finish().await;
}

#[tokio::test]
async fn a_pull_that_may_get_nothing_now_waits_until_its_limits_allow_it() {
    let (world, consumer) = one_of_two_at_a_time().await;
    let held = consumer.pull(json!({"lease_seconds": 600})).await;
    let waiting = consumer.pull(json!({"wait_seconds": 20}));
    let freeing = async {
        until("somebody to wait", async || {
            match world
                .gauge(world.stack().ingest(0), "penstock_pulls_waiting")
                .await
            {
                Some(1.0) => Ok(()),
                other => Err(format!("{other:?}")),
            }
        })
        .await;
        consumer.acknowledge(&held[0].lease).await
    };
    let begun = Instant::now();
    let (pulled, outcome) = tokio::join!(waiting, freeing);
    assert_eq!((pulled.len(), &*outcome), (1, "acknowledged"));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "it came when there was room"
    );
    world.finish().await;
}

#[tokio::test]
async fn a_lease_that_ran_out_is_extended_while_nobody_else_has_the_delivery_even_beyond_max_in_flight() {
    let (world, consumer) = one_of_two_at_a_time().await;
    let first = consumer.pull(json!({"lease_seconds": 600})).await;
    assert_eq!(first.len(), 1);
    // Its place is free again.
    world
        .execute("update deliveries set next_attempt_at = now() where lease_token is not null")
        .await;
    let second = consumer.pull(json!({"max": 1, "lease_seconds": 600})).await;
    assert_ne!(first[0].event.id, second[0].event.id, "the other is due longer");
    let extended = post(
        &consumer,
        "extend",
        json!({"leases": [first[0].lease], "lease_seconds": 600}),
    )
    .await;
    assert_eq!(extended["results"][0]["outcome"], "extended");
    assert!(consumer.pull(json!({})).await.is_empty(), "both are held");
    for held in [&first[0], &second[0]] {
        assert_eq!(consumer.acknowledge(&held.lease).await, "acknowledged");
    }
    world.finish().await;
}
