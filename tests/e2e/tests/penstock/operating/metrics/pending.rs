//! What is pending, and whether Postgres and NATS are reached, as any replica's gauges show it.

use std::time::Duration;

use e2e::{Answer, Endpoint, Event, Organization, World, until_within};
use penstock_local::Service;
use serde_json::json;

use crate::setup;

/// A look every 5 s at what is counted every 10 s, and 20 s until an old reading vanishes, on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits until a service shows this value of a series; none when it shows none.
async fn until_shows(world: &World, service: &Service, series: &str, holds: impl Fn(Option<f64>) -> bool) {
    until_within(PATIENCE, series, async || {
        let value = world.gauge(service, series).await;
        if holds(value) {
            Ok(())
        } else {
            Err(format!("{value:?}"))
        }
    })
    .await;
}

async fn until_pending(world: &World, service: &Service, state: &str, count: f64) {
    let series = format!("penstock_deliveries_pending{{state=\"{state}\"}}");
    until_shows(world, service, &series, |value| value == Some(count)).await;
}

/// Stores pending deliveries that are due after so many seconds.
async fn store(world: &World, endpoint: Endpoint, count: u32, due_in: i32, with: (&str, &str)) {
    let (columns, values) = with;
    let statement = format!(
        "insert into deliveries (org_id, event_id, endpoint_id, accepted_at, next_attempt_at {columns})
         select org_id, gen_random_uuid(), id, now(), now() + {due_in} * interval '1 second' {values}
         from endpoints cross join generate_series(1, {count}) as number where id = '{}'",
        endpoint.id
    );
    world.execute(statement).await;
}

async fn endpoint(world: &mut World, organization: &Organization, fields: serde_json::Value) -> Endpoint {
    let receiver = world.receiver().await;
    world.endpoint_with(organization, &receiver, fields).await
}

/// Stores deliveries of every state, as the workers would have left them.
async fn store_of_every_state(world: &mut World, organization: &Organization) {
    let plain = endpoint(world, organization, json!({})).await;
    let failing = endpoint(world, organization, json!({})).await;
    let asked = endpoint(world, organization, json!({})).await;
    let paced = endpoint(world, organization, json!({"rate_limit_per_second": 1})).await;
    let ordered = endpoint(world, organization, json!({"ordered": true})).await;
    let disabled = endpoint(world, organization, json!({})).await;
    let of_disabled_tenant = endpoint(world, organization, json!({})).await;
    let none = ("", "");
    store(world, plain, 30, -90, none).await;
    store(world, plain, 4, 3_600, none).await;
    store(world, failing, 207, -600, none).await;
    store(world, failing, 2, 3_600, none).await;
    store(world, asked, 11, -1, none).await;
    store(world, paced, 5, -1, none).await;
    // One that is not parked and six behind it.
    let key = (
        ", ordering_key, stream, ordinal, parked",
        ", 'k', 's', number, number > 1",
    );
    store(world, ordered, 7, -1, key).await;
    store(world, disabled, 8, -1, none).await;
    store(world, disabled, 1, 3_600, none).await;
    store(world, of_disabled_tenant, 3, -600, none).await;
    store(world, plain, 9, -1, (", pull", ", true")).await;
    for statement in [
        format!("update endpoints set status = 'disabled' where id = '{}'", disabled.id),
        format!(
            "update endpoints set tenant_enabled = false where id = '{}'",
            of_disabled_tenant.id
        ),
        format!(
            "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, open_until)
             values ('{}', '{}', 10, now(), now() + interval '1 hour')",
            failing.id, organization.id
        ),
        format!(
            "insert into endpoint_health (endpoint_id, org_id, consecutive_failures, failing_since, waits_until)
             values ('{}', '{}', 0, now(), now() + interval '1 hour')",
            asked.id, organization.id
        ),
        format!(
            "insert into endpoint_pace (endpoint_id, org_id, next_at)
             values ('{}', '{}', now() + interval '1 hour')",
            paced.id, organization.id
        ),
    ] {
        world.execute(statement).await;
    }
}

#[tokio::test]
async fn without_any_worker_the_api_shows_what_is_pending_and_what_keeps_it() {
    let mut world = setup().replicas(1, 0).start().await;
    let organization = world.organization().await;
    store_of_every_state(&mut world, &organization).await;

    let ingest = world.stack().ingest(0);
    for (state, count) in [
        ("due", 31.0),
        ("circuit_open", 207.0),
        ("held", 11.0),
        ("paced", 5.0),
        ("waiting", 6.0),
        ("ordered", 6.0),
        ("disabled", 12.0),
        ("pull", 9.0),
    ] {
        until_pending(&world, ingest, state, count).await;
    }
    let backlog = "penstock_worker_backlog_deliveries";
    until_shows(&world, ingest, backlog, |count| count == Some(31.0)).await;
    // Of those behind the open circuit, due for longer, the workers are not to blame.
    until_shows(&world, ingest, "penstock_deliveries_due_for_seconds", |age| {
        age.is_some_and(|age| (90.0..300.0).contains(&age))
    })
    .await;

    world.execute("delete from deliveries").await;
    until_pending(&world, ingest, "due", 0.0).await;
    until_shows(&world, ingest, "penstock_deliveries_due_for_seconds", |age| {
        age == Some(0.0)
    })
    .await;
    world.finish().await;
}

#[tokio::test]
async fn behind_a_slow_receiver_every_replica_of_both_services_shows_the_same() {
    let mut world = setup().replicas(2, 2).start().await;
    let organization = world.organization().await;
    let receiver = world.receiver().await;
    let one_at_a_time = json!({"max_in_flight": 1, "timeout_ms": 30_000});
    world.endpoint_with(&organization, &receiver, one_at_a_time).await;
    receiver.answer(|_| Answer::status(204).held());
    let producer = world.producer(&organization);
    for _ in 0..20 {
        producer.send(&Event::new("a", "1")).await;
    }
    let stack = world.stack();
    // One at each worker, and what is answered waits for nobody.
    for service in [stack.ingest(0), stack.ingest(1), stack.worker(0), stack.worker(1)] {
        until_shows(
            &world,
            service,
            "penstock_deliveries_pending{state=\"due\"}",
            |count| count.is_some_and(|count| (16.0..=19.0).contains(&count)),
        )
        .await;
        until_shows(&world, service, "penstock_deliveries_due_for_seconds", |age| {
            age.is_some_and(|age| age > 1.0)
        })
        .await;
    }
    receiver.answer(|_| Answer::status(204));
    receiver.release();
    world.until_deliveries_are(20, "delivered").await;
    world.finish().await;
}

#[tokio::test]
async fn what_cannot_be_read_of_a_frozen_postgres_is_not_shown() {
    let mut world = setup().start().await;
    world.tolerate("again");
    let services = || [world.stack().ingest(0), world.stack().worker(0)];
    let gauges = [
        "penstock_deliveries_pending",
        "penstock_deliveries_due_for_seconds",
    ];
    let up = "penstock_dependency_up{dependency=\"postgres\"}";
    for service in services() {
        until_shows(&world, service, up, |up| up == Some(1.0)).await;
        for gauge in gauges {
            until_shows(&world, service, gauge, |value| value == Some(0.0)).await;
        }
    }
    world.stack().postgres().freeze().unwrap();
    for service in services() {
        until_shows(&world, service, up, |up| up == Some(0.0)).await;
        for gauge in gauges {
            until_shows(&world, service, gauge, |value| value.is_none()).await;
        }
        until_shows(
            &world,
            service,
            "penstock_dependency_up{dependency=\"nats\"}",
            |up| up == Some(1.0),
        )
        .await;
    }
    world.stack().postgres().thaw().unwrap();
    for service in services() {
        until_shows(&world, service, up, |up| up == Some(1.0)).await;
        for gauge in gauges {
            until_shows(&world, service, gauge, |value| value == Some(0.0)).await;
        }
    }
    world.finish().await;
}

#[tokio::test]
async fn the_streams_of_a_nats_that_is_gone_are_not_shown_and_old_frames_are() {
    let mut world = setup().start().await;
    let organization = world.organization().await;
    world.stack_mut().worker_mut(0).kill().await.unwrap();
    world.producer(&organization).send(&Event::new("a", "1")).await;
    let up = "penstock_dependency_up{dependency=\"nats\"}";
    let age = "penstock_event_stream_oldest_frame_seconds";
    until_shows(&world, world.stack().ingest(0), up, |up| up == Some(1.0)).await;
    until_shows(&world, world.stack().ingest(0), age, |age| {
        age.is_some_and(|age| age > 1.0)
    })
    .await;

    world.stack_mut().nats_mut().kill().await.unwrap();
    until_shows(&world, world.stack().ingest(0), up, |up| up == Some(0.0)).await;
    for gauge in ["penstock_event_stream_frames", "penstock_event_stream_bytes", age] {
        until_shows(&world, world.stack().ingest(0), gauge, |value| value.is_none()).await;
    }
    world.stack_mut().nats_mut().start().await.unwrap();
    world.stack_mut().worker_mut(0).start().await.unwrap();
    for service in [world.stack().ingest(0), world.stack().worker(0)] {
        until_shows(&world, service, up, |up| up == Some(1.0)).await;
    }
    until_shows(&world, world.stack().ingest(0), age, |age| age == Some(0.0)).await;
    world.finish().await;
}
