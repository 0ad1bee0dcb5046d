//! What operators see of the services: whether they are ready, and how far behind they are.

use e2e::{Answer, Event, Shutdown, Signal, World, accepted, until};
use penstock_local::Service;
use reqwest::StatusCode;
use serde_json::{Value, json};
use shared::wire::stream;

use crate::setup;

/// Waits until a service is waiting for exactly these things; for nothing when it is ready.
pub(crate) async fn until_waiting_for(world: &World, service: &Service, missing: &[&str]) {
    let url = service.metrics_url().replace("/metrics", "/readyz");
    until("the readiness to be known", async || {
        let response = world.http().get(&url).send().await;
        let response = response.map_err(|error| error.to_string())?;
        let is_ready = response.status().is_success();
        let answer: Value = response.json().await.map_err(|error| error.to_string())?;
        let expected = if missing.is_empty() {
            Value::Null
        } else {
            json!(missing)
        };
        if answer["waiting_for"] == expected && is_ready == missing.is_empty() {
            Ok(())
        } else {
            Err(format!("{answer}"))
        }
    })
    .await;
}

#[tokio::test]
async fn readiness_follows_the_servers_that_a_service_needs() {
    let mut world = setup().start().await;
    world.tolerate("trying again");
    world
        .stack_mut()
        .postgres_mut()
        .stop(Shutdown::Fast)
        .await
        .unwrap();
    until_waiting_for(&world, world.stack().worker(0), &["database"]).await;
    until_waiting_for(&world, world.stack().ingest(0), &[]).await;
    world.stack_mut().postgres_mut().start().await.unwrap();
    until_waiting_for(&world, world.stack().worker(0), &[]).await;

    world.stack_mut().nats_mut().kill().await.unwrap();
    until_waiting_for(&world, world.stack().worker(0), &["NATS connection"]).await;
    until_waiting_for(&world, world.stack().ingest(0), &["NATS connection"]).await;
    world.stack_mut().nats_mut().start().await.unwrap();
    until_waiting_for(&world, world.stack().worker(0), &[]).await;
    until_waiting_for(&world, world.stack().ingest(0), &[]).await;
    world.finish().await;
}

#[tokio::test]
async fn a_replica_that_is_asked_to_stop_says_so_and_goes_on_for_the_delay() {
    let mut world = setup().ingest_env("STOP_DELAY", "1h").start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    world.stack().ingest(0).signal(Signal::SIGTERM).unwrap();
    until_waiting_for(&world, world.stack().ingest(0), &["not stopping"]).await;
    let health = world.http().get(world.url("/readyz")).send().await.unwrap();
    assert_eq!(
        health.status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "the API's own port says so too"
    );
    world.producer(&organization).send(&Event::new("a", "1")).await;
    receiver.wait_for(1).await;
    world.stack_mut().ingest_mut(0).kill().await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_stream_that_was_deleted_is_made_again_and_takes_events() {
    let mut world = setup().start().await;
    world.tolerate("is gone");
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    world.endpoint(&organization, &receiver).await;
    // It would end, which is another test's subject.
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    let jetstream = world.jetstream().await;
    assert!(jetstream.delete_stream(stream::name(0)).await.unwrap().success);
    let producer = world.producer(&organization);
    let id = until("an event to be accepted", async || {
        let answer = producer.try_send(&Event::new("a", "1")).await;
        let answer = answer.map_err(|error| error.to_string())?;
        if answer.status() == StatusCode::ACCEPTED {
            Ok(accepted(answer).await)
        } else {
            Err(answer.status().to_string())
        }
    })
    .await;
    world.stack_mut().worker_mut(0).start().await.unwrap();
    // One that was refused may have been stored all the same.
    world.until_delivery_is(id, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn gauges_tell_how_far_the_workers_are_behind() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let one_at_a_time = json!({"max_in_flight": 1, "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, one_at_a_time).await;
    receiver.answer(|_| Answer::status(204).held());
    let producer = world.producer(&organization);

    world.stack_mut().worker_mut(0).kill().await.unwrap();
    producer.send(&Event::new("a", "1")).await;
    let until_is = async |world: &World, ingest: bool, name: &str, holds: fn(f64) -> bool| {
        until(name, async || {
            let stack = world.stack();
            let service = if ingest { stack.ingest(0) } else { stack.worker(0) };
            let value = world.gauge(service, name).await;
            value
                .filter(|value| holds(*value))
                .ok_or_else(|| format!("{value:?}"))
        })
        .await
    };
    until_is(&world, true, "penstock_event_stream_frames", |frames| {
        frames >= 1.0
    })
    .await;
    until_is(&world, true, "penstock_event_stream_bytes", |bytes| bytes > 0.0).await;
    until_is(&world, true, "penstock_event_stream_max_bytes", |bytes| {
        bytes >= f64::from(1 << 20)
    })
    .await;

    world.stack_mut().worker_mut(0).start().await.unwrap();
    for _ in 0..3 {
        producer.send(&Event::new("a", "1")).await;
    }
    until_is(&world, false, "penstock_deliveries_in_flight", |count| {
        count >= 1.0
    })
    .await;
    until_is(&world, false, "penstock_deliveries_due_for_seconds", |seconds| {
        seconds >= 1.0
    })
    .await;
    until_is(&world, true, "penstock_event_stream_frames", |frames| {
        frames == 0.0
    })
    .await;

    receiver.answer(|_| Answer::status(204));
    receiver.release();
    world.until_deliveries_are(4, "delivered").await;
    until_is(&world, false, "penstock_deliveries_in_flight", |count| {
        count == 0.0
    })
    .await;
    until_is(&world, false, "penstock_deliveries_due_for_seconds", |seconds| {
        seconds == 0.0
    })
    .await;
    world.finish().await;
}
