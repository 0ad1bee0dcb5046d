//! Two workers and one stream: one takes its frames, and the other looks whether it can.

use e2e::{Event, Producer, Signal, World, new_event, until};
use time::OffsetDateTime;

use crate::faults::held_up::lock;
use crate::setup;

/// Events that each worker has stored.
async fn stored(world: &World) -> [u64; 2] {
    [stored_by(world, 0).await, stored_by(world, 1).await]
}

async fn stored_by(world: &World, worker: usize) -> u64 {
    let worker = world.stack().worker(worker);
    world.counter(worker, "penstock_intake_events_total").await
}

/// Waits until both workers have counted each other.
async fn until_both_have_counted(world: &World) {
    let listed = "select count(*) from workers";
    world.until_count_is("both workers to be listed", listed, 2).await;
    let now = sqlx::query_scalar("select now()")
        .fetch_one(world.database())
        .await;
    let now: OffsetDateTime = now.expect("Postgres runs");
    until("both workers to count", async || {
        let counted = sqlx::query_scalar("select count(*) from workers where last_seen_at > $1").bind(now);
        let counted: i64 = counted.fetch_one(world.database()).await.expect("Postgres runs");
        (counted == 2).then_some(()).ok_or_else(|| counted.to_string())
    })
    .await;
}

async fn send_ten(world: &World, producer: &Producer) {
    for _ in 0..10 {
        let id = producer.send(&Event::new("a", "1")).await;
        world.until_delivery_is(id, "delivered").await;
    }
}

/// Sends events one after another, until one worker takes all of ten, and returns which.
async fn until_one_takes_all(world: &World, producer: &Producer) -> usize {
    until("one worker to take all events", async || {
        let before = stored(world).await;
        send_ten(world, producer).await;
        let after = stored(world).await;
        match [after[0] - before[0], after[1] - before[1]] {
            [10, 0] => Ok(0),
            [0, 10] => Ok(1),
            shares => Err(format!("{shares:?}")),
        }
    })
    .await
}

#[tokio::test]
async fn one_worker_takes_a_stream_and_the_other_what_it_cannot_take() {
    let mut world = setup().replicas(1, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    let producer = world.producer(&organization);
    until_both_have_counted(&world).await;
    let first = until_one_takes_all(&world, &producer).await;
    let other = 1 - first;

    // The first one cannot store what it has, and asks for no more.
    let before = stored_by(&world, other).await;
    let held = lock(&world, "lock table deliveries in share mode").await;
    until("the other worker to begin deliveries", async || {
        for _ in 0..10 {
            world
                .publish_events(&[new_event(organization.id, "a", "1")])
                .await;
        }
        let service = world.stack().worker(other);
        match world.gauge(service, "penstock_deliveries_in_flight").await {
            Some(some) if some > 0.0 => Ok(()),
            none => Err(format!("{none:?}")),
        }
    })
    .await;
    held.rollback().await.expect("Postgres runs");
    world.settle().await;
    assert!(stored_by(&world, other).await > before);

    // It stands still with a request open, and then it is gone.
    let frozen = world.stack().worker(first).signal(Signal::SIGSTOP);
    frozen.expect("it runs");
    send_ten(&world, &producer).await;
    let worker = world.stack_mut().worker_mut(first);
    worker.kill().await.expect("it runs");
    send_ten(&world, &producer).await;
    let worker = world.stack_mut().worker_mut(first);
    worker.start().await.expect("it starts again");
    send_ten(&world, &producer).await;
    world.finish().await;
}
